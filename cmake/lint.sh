#!/usr/bin/env bash
# Checks the format of all sources, then runs clang-tidy on those that BUILD_DIR compiles.
#   cmake/lint.sh BUILD_DIR
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1
folders=(bench c_interface calib core engines eval examples formats include kernels model pipeline quant
  search sparsity tests tokenizer tools)

mapfile -t sources < <(find "${folders[@]}" -name '*.cpp' -o -name '*.h' | sort)
echo "==> clang-format on ${#sources[@]} files"
clang-format --dry-run --Werror "${sources[@]}"

# Tests are checked by the compiler's warnings only: gtest's macros trip many checks.
mapfile -t compiled < <(printf '%s\n' "${sources[@]}" | grep '\.cpp$' |
  grep -v -e '^tests/' -e '^bench/' -e '^examples/')
# Precompiled headers are g++'s, which clang cannot read; sources include what they use anyway.
mkdir -p "$build/lint"
sed 's/-Winvalid-pch//g; s/-include [^ "]*cmake_pch\.hxx//g' "$build/compile_commands.json" \
  >"$build/lint/compile_commands.json"
echo "==> clang-tidy on ${#compiled[@]} files"
# The path-sensitive analyzer takes half of the time: it is kept for the folders that handle bytes
# of files and threads. Two at a time, each in one go over a few files; what clang-tidy
# counts and suppresses is noise.
tidy() { # MORE_CHECKS, files on stdin
  xargs -r -P "${JOBS:-2}" -n 4 clang-tidy -p "$build/lint" --quiet --checks="$1" \
    --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wreserved-identifier \
    --warnings-as-errors='*' 2>/dev/null
}
raw='^(core|formats)/'
printf '%s\n' "${compiled[@]}" | grep -E "$raw" | tidy ''
printf '%s\n' "${compiled[@]}" | grep -vE "$raw" | tidy '-clang-analyzer-*'
echo "==> Lint: ${#sources[@]} files are clean"
