#!/usr/bin/env bash
# Compiles the example at the head of each public header, and each header by itself.
#   header_examples.sh INCLUDE_DIR CXX CC
set -euo pipefail
include=$1 cxx=$2 cc=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The first block of the leading comment whose lines begin with three spaces.
example_of() { # HEADER
  awk '!/^\/\// { exit } /^\/\/   / { print substr($0, 3); found = 1; next } found { exit }' "$1"
}

compiles() { # FILE
  case $1 in
    *.c) "$cc" -std=c99 -pedantic -Wall -Wextra -Werror -I"$include" -fsyntax-only "$1" ;;
    *) "$cxx" -std=c++20 -Wall -Wextra -Wno-unused -Wno-missing-field-initializers \
      -Werror -I"$include" -fsyntax-only "$1" ;;
  esac
}

count=0
for header in "$include"/pare/*.h; do
  name=$(basename "$header")
  example=$(example_of "$header")
  [[ -n $example ]] || { echo "pare/$name begins without an example"; exit 1; }
  # What C reads is C99.
  case $name in
    pare.h | export.h | version_number.h) suffix=c ;;
    *) suffix=cpp ;;
  esac
  {
    echo "#include <pare/$name>"
    if [[ $suffix == c ]]; then
      echo "#include <stdio.h>"
    else
      for other in "$include"/pare/*.h; do echo "#include <pare/$(basename "$other")>"; done
      echo "#include <cstdio>"
    fi
    printf 'int main(void) {\n%s\nreturn 0;\n}\n' "$example"
  } >"$scratch/example.$suffix"
  echo "#include <pare/$name>" >"$scratch/alone.cpp"
  compiles "$scratch/example.$suffix" || { echo "pare/$name: its example does not compile"; exit 1; }
  compiles "$scratch/alone.cpp" || { echo "pare/$name does not stand alone"; exit 1; }
  count=$((count + 1))
done
echo "$count headers with examples"
