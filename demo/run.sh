#!/usr/bin/env bash
# Quantizes the demo model four ways, then measures all four against BF16 in one run.
#   demo/run.sh BUILD_DIR      what it makes goes to BUILD_DIR/../demo
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "${1:?usage: demo/run.sh BUILD_DIR}" && pwd)
out=$(dirname "$bin")/demo
mkdir -p "$out"

quantize() { # NAME, "what it is", options …
  local name=$1
  echo
  echo "==> Quantizing demo/model: $2"
  shift 2
  "$bin/quantize" "$here/model" -o "$out/$name.h5" --force \
    --calib "$here/calib.jsonl" --calib_size 64 --calib_seqlen 256 "$@"
}

quantize fp8 "FP8 (E4M3, static scales)" --qformat fp8
quantize int8 "INT8 SmoothQuant" --qformat int8_sq
quantize int4 "INT4 AWQ, groups of 128" --qformat int4_awq
quantize sparse24 "2:4 sparsity by SparseGPT, BF16 values" --qformat full_prec --sparsity sparsegpt

echo
echo "==> Measuring all four against BF16 on demo/eval.txt"
cd "$out"
"$bin/accuracy-eval" --baseline "$here/model" fp8.h5 int8.h5 int4.h5 sparse24.h5 \
  --text "$here/eval.txt" --ctx 256 --json eval.json --report eval.html --force >eval.txt
echo
cat eval.txt
echo
echo "The four checkpoints, eval.txt, eval.json and eval.html (open it in a browser) are in $out."
