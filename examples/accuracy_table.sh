#!/usr/bin/env bash
# Makes the accuracy table of the README for any model: compresses it nine ways and measures each
# against the original. What is in OUT_DIR already is not made again.
#
#   examples/accuracy_table.sh MODEL_DIR CALIBRATION TEXT OUT_DIR [more options of accuracy-eval]
#
# quantize and accuracy-eval are looked for in BIN_DIR (default build/release), then on PATH.
set -euo pipefail
if [[ $# -lt 4 ]]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
model=$1 calibration=$2 text=$3 out=$4
shift 4
bin=${BIN_DIR:-$(dirname "$0")/../build/release}
PATH=$bin:$PATH
mkdir -p "$out"

candidates=()
compress() {
  local file=$out/$1.h5
  shift
  candidates+=("$file")
  [[ -e $file ]] && return
  quantize "$model" -o "$file" --calib "$calibration" --calib_size 128 --calib_seqlen 512 "$@"
}

compress fp8 --qformat fp8
compress int8-sq --qformat int8_sq
compress int8-unsmoothed --qformat int8_sq --smooth-strength none
compress int4-awq --qformat int4_awq
compress int4-rounded --qformat int4_wo
compress 24-sparsegpt --qformat full_prec --sparsity sparsegpt
compress 24-wanda --qformat full_prec --sparsity wanda
compress 24-magnitude --qformat full_prec --sparsity magnitude
compress 24-sparsegpt-int4-awq --qformat int4_awq --sparsity sparsegpt

accuracy-eval --baseline "$model" "${candidates[@]}" --text "$text" "$@"
