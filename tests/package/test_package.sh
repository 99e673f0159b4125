#!/usr/bin/env bash
# Installs into a scratch prefix and uses what is there: from C++ with CMake and with pkg-config,
# from C, from Python.
#   test_package.sh BUILD_DIR VERSION CXX CC PYTHON
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$1 version=$2 cxx=$3 cc=$4 python=$5
demo=$(cd "$here/../../demo" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
prefix=$scratch/prefix

quietly() { # LOG COMMAND …
  local log=$scratch/$1
  shift
  "$@" >"$log" 2>&1 || { cat "$log"; exit 1; }
}

echo "==> Installing"
quietly install.log cmake --install "$build" --prefix "$prefix"
# Found where it is, not where it was configured for.
mv "$prefix" "$scratch/moved"
prefix=$scratch/moved
library=$(find "$prefix" -name 'libpare.so.*.*.*')
libraries=$(dirname "$library")

echo "==> The installed programs find their library"
"$prefix/bin/quantize" --version | grep -qx "pare $version"
"$prefix/bin/accuracy-eval" --version | grep -qx "pare $version"

echo "==> Each header stands alone and its example compiles"
"$here/header_examples.sh" "$prefix/include" "$cxx" "$cc"

echo "==> C++, find_package"
quietly configure.log cmake -S "$here/consumer" -B "$scratch/cpp" -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_CXX_COMPILER="$cxx" -DPARE_EXPECTED_VERSION="$version"
quietly build.log cmake --build "$scratch/cpp"
"$scratch/cpp/consumer" "$demo" "$scratch"
if cmake -S "$here/consumer" -B "$scratch/other" -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_CXX_COMPILER="$cxx" -DPARE_EXPECTED_VERSION=0.0.1 >"$scratch/other.log" 2>&1; then
  echo "another minor version of 0.x is taken for compatible"
  exit 1
fi
grep -q "considered but not accepted" "$scratch/other.log"

echo "==> C++, pkg-config"
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name pare.pc)")
[[ $(pkg-config --modversion pare) == "$version" ]]
read -ra flags < <(pkg-config --cflags --libs pare)
"$cxx" -std=c++20 -DPARE_EXPECTED_VERSION="\"$version\"" "$here/consumer/main.cpp" "${flags[@]}" \
  -o "$scratch/consumer"
mkdir "$scratch/again"
LD_LIBRARY_PATH=$libraries "$scratch/consumer" "$demo" "$scratch/again"
cmp "$scratch/cpp.h5" "$scratch/again/cpp.h5"

tensor=model.layers.0.mlp.up_proj.weight
echo "==> C"
quietly configure_c.log cmake -S "$here/consumer_c" -B "$scratch/c" \
  -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$cc" -DPARE_EXAMPLES="$here/../../examples"
quietly build_c.log cmake --build "$scratch/c"
"$scratch/c/consumer_c" "$demo/model" "$demo/calib.jsonl" "$scratch/c.h5" "$tensor" \
  2>"$scratch/c.progress" | tee "$scratch/c.out"
grep -q "100 % " "$scratch/c.progress"
grep -q "^$tensor int4: " "$scratch/c.out"
# The same options are the same bytes, whoever calls.
cmp "$scratch/cpp.h5" "$scratch/c.h5"
status=0
"$scratch/c/consumer_c" /no/such/model "$demo/calib.jsonl" "$scratch/d.h5" "$tensor" \
  2>"$scratch/c.err" || status=$?
[[ $status -eq 3 ]]
grep -q "input_missing: .*/no/such/model" "$scratch/c.err"

echo "==> Python"
export LD_LIBRARY_PATH=$libraries
"$python" "$here/../../examples/quantize.py" model="$demo/model" output="$scratch/python.h5" \
  qformat=int4_awq calibration="$demo/calib.jsonl" calibration_size=8 calibration_seqlen=128
cmp "$scratch/cpp.h5" "$scratch/python.h5"
"$python" "$here/../../examples/read_tensor.py" "$scratch/python.h5" "$tensor" |
  tee "$scratch/python.out"
cmp "$scratch/c.out" "$scratch/python.out"
if "$python" "$here/../../examples/quantize.py" model=/no/such/model output="$scratch/d.h5" \
  2>"$scratch/python.err"; then
  echo "a model that is not there is no error"
  exit 1
fi
grep -q "/no/such/model" "$scratch/python.err"
unset LD_LIBRARY_PATH

echo "==> Only public names are exported"
# What is visible in namespace pare, and every function of C, has to be in a public header. Beside
# them there are only the templates and tables of the C++ library, which are weak or unique.
names=$scratch/names
nm -D --defined-only "$library" | awk '{ print $2, $3 }' | c++filt >"$names"
exported=$(sed -n 's/^. \(typeinfo \(name \)\?for \|vtable for \)\?pare::\([A-Za-z_0-9]*\).*/\3/p' "$names" | sort -u)
for name in $exported; do
  grep -qrw "$name" "$prefix/include/pare" || { echo "exported by mistake: pare::$name"; exit 1; }
done
grep -qx quantize <<<"$exported"
functions=$(sed -n 's/^T \(pare_[a-z_0-9]*\)$/\1/p' "$names")
for name in $functions; do
  grep -qw "$name" "$prefix/include/pare/pare.h" || { echo "exported by mistake: $name"; exit 1; }
done
for name in $(grep -o '\bpare_[a-z_]*(' "$prefix/include/pare/pare.h" | tr -d '(' | sort -u); do
  grep -qx "$name" <<<"$functions" || { echo "declared and not exported: $name"; exit 1; }
done
others=$(grep -vE '^[WVu] .*\b(std|__gnu_cxx)::|^[TWV] .*\bpare::|^T pare_' "$names" || true)
[[ -z $others ]] || { echo "exported by mistake:"; echo "$others"; exit 1; }
echo "==> Package is good"
