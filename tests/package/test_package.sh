#!/usr/bin/env bash
# Installs into a scratch prefix and builds a consumer against it, with CMake and with pkg-config.
#   test_package.sh BUILD_DIR VERSION CXX
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$1 version=$2 compiler=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
prefix=$scratch/prefix

echo "==> Installing"
cmake --install "$build" --prefix "$prefix" >"$scratch/install.log"

echo "==> The installed programs find their library"
"$prefix/bin/quantize" --version | grep -qx "pare $version"
"$prefix/bin/accuracy-eval" --version | grep -qx "pare $version"

echo "==> find_package"
cmake -S "$here/consumer" -B "$scratch/build" -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_CXX_COMPILER="$compiler" -DPARE_EXPECTED_VERSION="$version" >"$scratch/configure.log"
cmake --build "$scratch/build" >"$scratch/build.log"
"$scratch/build/consumer"

echo "==> pkg-config"
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name pare.pc)")
[[ $(pkg-config --modversion pare) == "$version" ]]
# The prefix is where the file lies, not where it was configured for.
read -ra flags < <(pkg-config --define-prefix --cflags --libs pare)
"$compiler" -std=c++20 -DPARE_EXPECTED_VERSION="\"$version\"" "$here/consumer/main.cpp" \
  "${flags[@]}" -o "$scratch/consumer"
LD_LIBRARY_PATH=$(dirname "$(find "$prefix" -name libpare.so)") "$scratch/consumer"

echo "==> Only public names are exported"
library=$(find "$prefix" -name 'libpare.so.*.*.*')
# What is defined in namespace pare and visible has to be declared in a public header.
exported=$(nm -DC --defined-only "$library" | sed -n 's/^[0-9a-f]* [TW] pare::\([A-Za-z_0-9]*\)[(:[].*/\1/p' |
  sort -u)
for name in $exported; do
  grep -qrw "$name" "$prefix/include/pare" || { echo "exported by mistake: pare::$name"; exit 1; }
done
grep -qx quantize <<<"$exported"
echo "==> Package is good"
