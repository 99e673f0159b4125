#!/usr/bin/env bash
# Makes the accuracy table of docs/accuracy.md for any model: compresses it in every format and
# measures each against the original. What is in OUT_DIR already is not made again.
#
#   examples/accuracy_table.sh MODEL_DIR CALIBRATION TEXT OUT_DIR [more options of accuracy-eval]
#
# ONLY=REGEX leaves out rows whose name does not match, such as ONLY='^(fp8|int8)'. quantize and
# accuracy-eval are looked for in BIN_DIR (default build/release), then on PATH.
set -euo pipefail
if [[ $# -lt 4 ]]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
model=$1 calibration=$2 text=$3 out=$4
shift 4
bin=${BIN_DIR:-$(dirname "$0")/../build/release}
PATH=$bin:$PATH
mkdir -p "$out"

candidates=()
compress() {
  local name=$1 file=$out/$1.h5
  shift
  [[ $name =~ ${ONLY:-} ]] || return 0
  candidates+=("$file")
  [[ -e $file ]] && return
  quantize "$model" -o "$file" --calib "$calibration" --calib_size 128 --calib_seqlen 512 "$@"
}

compress fp8 --qformat fp8
compress fp8-pc-pt --qformat fp8_pc_pt
compress fp8-block --qformat fp8_block
compress int8-sq --qformat int8_sq
compress int8-unsmoothed --qformat int8_sq --smooth-strength none
compress int8-050 --qformat int8_sq --smooth-strength 0.5
compress int8-085 --qformat int8_sq --smooth-strength 0.85
compress int8-100 --qformat int8_sq --smooth-strength 1.0
compress int8-dynamic --qformat int8_sq --dynamic-activations
compress int4-awq --qformat int4_awq
compress int4-rounded --qformat int4_wo
compress int4-asym --qformat int4_awq --asym
compress int4-g32 --qformat int4_awq --group-size 32
compress w4a8-awq --qformat w4a8_awq
compress nvfp4-wo --qformat nvfp4_wo
compress nvfp4-wo-rounded --qformat nvfp4_wo --algo rtn
compress nvfp4 --qformat nvfp4
compress mxfp4-wo --qformat mxfp4_wo
compress mxfp4-wo-rounded --qformat mxfp4_wo --algo rtn
compress mxfp4 --qformat mxfp4
compress mixed-5bit --formats int4_awq,int8_sq,fp8 --target-bits 5.0
compress 24-magnitude --qformat full_prec --sparsity magnitude
compress 24-magnitude-off --qformat full_prec --sparsity magnitude --permute-channels off
compress 24-wanda --qformat full_prec --sparsity wanda
compress 24-ria --qformat full_prec --sparsity ria
compress 24-sparsegpt --qformat full_prec --sparsity sparsegpt
compress 24-admm --qformat full_prec --sparsity admm
compress 24-sparsegpt-int4 --qformat int4_awq --sparsity sparsegpt
compress 24-admm-int4 --qformat int4_awq --sparsity admm
for cache in fp8 int8; do
  compress kv-$cache --qformat full_prec --kv-cache $cache
  compress kv-$cache-tensor --qformat full_prec --kv-cache $cache --kv-scales tensor
  compress kv-$cache-affine --qformat full_prec --kv-cache $cache --kv-affine
done

if [[ ${#candidates[@]} -eq 0 ]]; then
  echo "ONLY=${ONLY:-} matches no row" >&2
  exit 2
fi
accuracy-eval --baseline "$model" "${candidates[@]}" --text "$text" "$@"
