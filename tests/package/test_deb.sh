#!/usr/bin/env bash
# Packs the Debian packages, unpacks them into a scratch root and uses what is there: programs,
# manual pages, completions, the library.
#   test_deb.sh BUILD_DIR VERSION CC
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$1 version=$2 cc=$3
demo=$(cd "$here/../../demo" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root

for program in dpkg-deb dpkg-shlibdeps file; do
  command -v "$program" >/dev/null || { echo "$program is not there: nothing was tried"; exit 77; }
done

fail() {
  echo "$1"
  exit 1
}

echo "==> Packing"
cpack --config "$build/CPackConfig.cmake" -B "$scratch/deb" >"$scratch/cpack.log" 2>&1 || {
  cat "$scratch/cpack.log"
  exit 1
}
architecture=$(dpkg --print-architecture)
runtime=$scratch/deb/pare_${version}_$architecture.deb
development=$scratch/deb/pare-dev_${version}_$architecture.deb

echo "==> What the packages say of themselves"
[[ $(dpkg-deb -f "$runtime" Package Version) == "Package: pare"$'\n'"Version: $version" ]]
[[ $(dpkg-deb -f "$development" Depends) == "pare (= $version)" ]]
depends=$(dpkg-deb -f "$runtime" Depends)
for library in libc6 libstdc++6 libdnnl libhdf5 libhwy libopenblas libpcre2 libssl libutf8proc; do
  grep -q "\b$library" <<<"$depends" || fail "no dependency on $library: $depends"
done
if grep -q libpare <<<"$depends"; then fail "depends on its own library: $depends"; fi

dpkg-deb -x "$runtime" "$root"
dpkg-deb -x "$development" "$root"
for package in pare pare-dev; do
  grep -q "^License: Apache-2.0" "$root/usr/share/doc/$package/copyright"
done
if grep -rqF "$build" "$root"; then
  fail "the folder that it was built in is named in $(grep -rlF "$build" "$root")"
fi

echo "==> The programs run from where they are"
bin=$root/usr/bin
"$bin/quantize" --version | grep -qx "pare $version"
"$bin/quantize" "$demo/model" -o "$scratch/fp8.h5" --qformat fp8 --calib "$demo/calib.jsonl" \
  --calib_size 4 --calib_seqlen 64 --quiet >/dev/null
"$bin/accuracy-eval" --baseline "$demo/model" "$scratch/fp8.h5" --text "$demo/eval.txt" --ctx 64 \
  --limit 8 --max-loss 20% --quiet >/dev/null

names_of() { grep -oE -- '(^|[ ,])--?[a-zA-Z][a-z_-]*' <<<"$1" | tr -d ' ,' | sort -u; }

# page WORD …: the manual page of a program, or of one of its commands, has all that --help has.
page() {
  local name=${*// /-} file text
  name=${name// /-}
  file=$root/usr/share/man/man1/$name.1
  if command -v man >/dev/null; then
    text=$(MANWIDTH=200 man --warnings -l "$file" 2>"$scratch/man.err" | col -b)
  elif command -v groff >/dev/null; then
    text=$(groff -ww -man -Tutf8 "$file" 2>"$scratch/man.err" | col -b)
  else
    echo "neither man nor groff is there: $name.1 was not rendered"
    return
  fi
  [[ ! -s $scratch/man.err ]] || { cat "$scratch/man.err"; exit 1; }
  grep -q "^NAME" <<<"$text" || fail "$name.1 has no NAME"
  grep -q "^EXIT STATUS" <<<"$text" || fail "$name.1 does not say the exit statuses"
  local help option
  help=$("$bin/$1" "${@:2}" --help | sed -n 's/^  -/-/p' | sed 's/  .*//')
  [[ -n $help ]]
  while read -r option; do
    grep -qw -- "$option" <<<"$text" || fail "$name.1 does not know $option"
  done < <(names_of "$help")
}

echo "==> Manual pages"
page quantize
page quantize export
page quantize check
page accuracy-eval

# candidates WORD …: what bash offers for the last of the words, sorted, on one line.
candidates() {
  bash -c '
    source "$1/usr/share/bash-completion/completions/$2"
    cd "$3"
    COMP_WORDS=("${@:2:1}" "${@:4}") COMP_CWORD=$(($# - 3))
    function=$(complete -p "$2" | sed "s/.*-F \([^ ]*\) .*/\1/")
    "$function"
    printf "%s\n" "${COMPREPLY[@]}"' bash "$root" "$1" "$scratch/files" "${@:2}" | sort | xargs
}
expect() { # CANDIDATES WORD …
  local found
  found=$(candidates "${@:2}")
  [[ $found == "$1" ]] || fail "${*:2}: bash offers \"$found\", expected \"$1\""
}

echo "==> Completions"
mkdir -p "$scratch/files/a folder"
touch "$scratch/files/recipe.json" "$scratch/files/model.h5" "$scratch/files/text.txt"
expect "--qformat" quantize model --qf
expect "int4_awq int4_gptq int4_wo" quantize model --qformat int4
expect "fp8,int8_sq fp8,int8_wo" quantize model --formats fp8,int8
expect "fp8_block fp8_pc_pt" quantize model --qformat = fp8_
expect "admm magnitude none ria sparsegpt wanda" quantize model --sparsity ""
expect "a folder recipe.json" quantize --recipe ""
expect "a folder" quantize --work-dir ""
expect "" quantize --calib_size ""
expect "export" quantize exp
expect "model.h5" quantize mo
expect "--shard-size" quantize export --shard
expect "auto bar none plain" quantize export --progress ""
expect "mmlu" accuracy-eval --tasks mm
expect "compare" accuracy-eval comp
expect "--max-kl --max-loss --max-memory --max-ppl-ratio" accuracy-eval compare --max
# The values are those that the programs list.
listed=$("$bin/quantize" --list-qformats | awk 'NR > 2 { print $1 }' | sort | xargs)
expect "$listed" quantize --qformat ""
listed=$("$bin/quantize" export --help | sed '1,/^-------/d' | awk '{ print $1 }' | sort | xargs)
expect "$listed" quantize export --export ""
if command -v zsh >/dev/null; then
  for script in "$root"/usr/share/zsh/vendor-completions/_*; do zsh -n "$script"; done
fi
if command -v fish >/dev/null; then
  for script in "$root"/usr/share/fish/vendor_completions.d/*.fish; do fish -n "$script"; done
  offered=$(HOME=$scratch fish -c "source '$root/usr/share/fish/vendor_completions.d/quantize.fish'
    complete -C 'quantize export --export '" | cut -f 1 | sort | xargs)
  [[ $offered == "$listed" ]] || fail "fish offers \"$offered\", expected \"$listed\""
fi

echo "==> A program in C against the unpacked packages"
{
  cmake -S "$here/consumer_c" -B "$scratch/c" -DCMAKE_PREFIX_PATH="$root/usr" \
    -DCMAKE_C_COMPILER="$cc" -DPARE_EXAMPLES="$root/usr/share/doc/pare-dev/examples"
  cmake --build "$scratch/c"
} >"$scratch/c.log" 2>&1 || { cat "$scratch/c.log"; exit 1; }
"$scratch/c/consumer_c" "$demo/model" "$demo/calib.jsonl" "$scratch/c.h5" \
  model.layers.0.mlp.up_proj.weight 2>/dev/null
echo "==> Debian packages are good"
