#!/usr/bin/env bash
# Builds examples/cmake_project against an installed pare: what runs again, what does not, and that
# a gate that fails is a build that fails.
#   test_build_steps.sh BUILD_DIR CXX GENERATOR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$1 cxx=$2 generator=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
project=$scratch/project
output=$project/model.h5
log=$scratch/log

fail() {
  echo "$1"
  cat "$log"
  exit 1
}

configure() { # OPTION …
  cmake -S "$here/../../examples/cmake_project" -B "$project" -G "$generator" \
    -DCMAKE_PREFIX_PATH="$scratch/prefix" -DCMAKE_CXX_COMPILER="$cxx" -DDEMO="$scratch/demo" "$@" \
    >"$log" 2>&1 || fail "configuring failed"
}
build() { cmake --build "$project" -j 2 >"$log" 2>&1; }
state() { stat -c '%i %y' "$output" "$project"/*.passed; }

# expect STEPS WHAT: builds; the steps that run are "both", "measure" or "none".
expect() {
  local before ran=none
  before=$(state 2>/dev/null || true)
  build || fail "$2: the build failed"
  if grep -q "Measuring " "$log"; then ran=measure; fi
  if grep -q "Quantizing " "$log"; then
    if [[ $ran == measure ]]; then ran=both; else ran=quantize; fi
  fi
  [[ $ran == "$1" ]] || fail "$2: ran $ran, expected $1"
  if [[ $ran == none && $(state) != "$before" ]]; then fail "$2: the outputs changed"; fi
  echo "==> $2: $1"
}

cmake --install "$build" --prefix "$scratch/prefix" >"$log" 2>&1 || fail "installing failed"
cp -r "$here/../../demo" "$scratch/demo"

configure
expect both "first build"
[[ -s $project/model.html ]] || fail "the report is missing"
"$project/tensors" "$output" >"$scratch/tensors"
grep -q "^model.layers.0.mlp.up_proj.weight int8 8.1 bits " "$scratch/tensors"
expect none "second build"
configure
expect none "configured again"

# Makefiles compare times by the second on some file systems.
sleep 1
touch "$scratch/demo/calib.jsonl"
expect both "touched calibration"
sleep 1
touch "$scratch/demo/eval.txt"
expect measure "touched text of the gate"
sleep 1
touch "$scratch/demo/model/config.json"
expect both "touched model"
echo '{"temperature": 1}' >"$scratch/demo/model/generation_config.json"
expect both "a file more in the model"
expect none "nothing changed"
sleep 1
touch "$scratch/prefix/bin/quantize"
expect both "another quantize"
configure -DQFORMAT=int4_awq -DMAX_LOSS=50%
expect both "other options"
"$project/tensors" "$output" | grep -q "^model.layers.0.mlp.up_proj.weight int4 " ||
  fail "the other format is not there"
configure -DMAX_LOSS=60%
expect measure "another limit"

configure -DMAX_LOSS=0.01%
before=$(stat -c '%i %y' "$output")
for attempt in first second; do
  rm -f "$project/model.html"
  ! build || fail "a gate failed and the build did not ($attempt time)"
  grep -q "accuracy-eval: error: gate failed: .*max_loss allows 0.01 %" "$log" ||
    fail "the build does not say which gate failed"
  ! grep -q "Quantizing " "$log" || fail "the model was quantized again for another limit"
  [[ -s $project/model.html ]] || fail "the gate failed and left no report"
done
[[ $(stat -c '%i %y' "$output") == "$before" ]] || fail "the checkpoint changed"
echo "==> failed gate: the build fails, and goes on failing"
configure -DMAX_LOSS=60%
expect measure "passes again"

echo "==> Shards and a recipe, and a gate in another folder"
mkdir -p "$scratch/shards/gate"
echo '{"qformat": "int8_wo"}' >"$scratch/shards/recipe.json"
cat >"$scratch/shards/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(shards LANGUAGES CXX)
find_package(pare REQUIRED)
pare_quantize(TARGET sharded MODEL ../demo/model RECIPE recipe.json OUTPUT out/sharded)
pare_quantize(TARGET unwanted MODEL /no/such/model DEPENDS sharded OUTPUT unwanted.h5
              EXCLUDE_FROM_ALL)
add_subdirectory(gate)
END
cat >"$scratch/shards/gate/CMakeLists.txt" <<'END'
pare_accuracy_gate(TARGET good BASELINE ../../demo/model CANDIDATE ${PROJECT_BINARY_DIR}/out/sharded
                   TEXT ../../demo/eval.txt MAX_KL 0.5 JSON eval.json ARGS --ctx 64 --limit 8)
END
project=$scratch/shards/build
cmake -S "$scratch/shards" -B "$project" -G "$generator" -DCMAKE_PREFIX_PATH="$scratch/prefix" \
  -DCMAKE_CXX_COMPILER="$cxx" >"$log" 2>&1 || fail "configuring failed"
output=$project/out/sharded/sharded.h5.index.json
state() { stat -c '%i %y' "$output" "$project/gate/good.passed"; }
expect both "first build"
grep -q '"int8_wo"' "$project/gate/eval.json" || fail "the recipe was not followed"
expect none "second build"
sleep 1
echo '{"qformat": "int4_wo"}' >"$scratch/shards/recipe.json"
expect both "another recipe"
grep -q '"int4_wo"' "$project/gate/eval.json" || fail "the new recipe was not followed"
expect none "nothing changed"

echo "==> Folders for engines"
mkdir -p "$scratch/engines"
cat >"$scratch/engines/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(engines LANGUAGES CXX)
find_package(pare REQUIRED)
set(steps MODEL ../demo/model QFORMAT int4_wo)
pare_quantize(TARGET one ${steps} OUTPUT one EXPORT compressed-tensors)
pare_quantize(TARGET beside ${steps} OUTPUT beside.h5 EXPORT gguf awq)
pare_quantize(TARGET several ${steps} OUTPUT several EXPORT gguf gptq)
pare_accuracy_gate(TARGET good BASELINE ../demo/model
                   CANDIDATE one beside ${PROJECT_BINARY_DIR}/beside-gguf
                             ${PROJECT_BINARY_DIR}/several/gptq
                   TEXT ../demo/eval.txt MAX_KL 0.5 ARGS --ctx 64 --limit 8)
END
project=$scratch/engines/build
cmake -S "$scratch/engines" -B "$project" -G "$generator" -DCMAKE_PREFIX_PATH="$scratch/prefix" \
  -DCMAKE_CXX_COMPILER="$cxx" >"$log" 2>&1 || fail "configuring failed"
state() { stat -c '%i %y' "$project"/{one,beside-gguf,beside-awq,several/gguf,several/gptq}/pare_export.json \
  "$project/beside.h5" "$project/good.passed"; }
expect both "first build"
expect none "second build"
sleep 1
touch "$scratch/demo/eval.txt"
expect measure "touched text of the gate"
sleep 1
touch "$scratch/demo/model/config.json"
expect both "touched model"
expect none "nothing changed"
# Ninja looks for every file that a step makes.
for form in gguf gptq; do
  [[ $generator == Ninja ]] || break
  rm -r "$project/several/$form"
  expect both "a folder that is gone"
  expect none "nothing changed"
done
sleep 1
sed -i 's/several EXPORT gguf gptq/several EXPORT gptq,awq/; s/beside.h5 EXPORT gguf awq/beside.h5 EXPORT gguf/' \
  "$scratch/engines/CMakeLists.txt"
state() { stat -c '%i %y' "$project"/{one,beside-gguf,several/gptq,several/awq}/pare_export.json \
  "$project/good.passed"; }
expect both "other forms"
[[ ! -e $project/several/gguf && ! -e $project/beside-awq ]] || fail "forms of before stay"
expect none "nothing changed"

echo "==> Mistakes are found when configuring"
mistake() { # WORDS ARGUMENTS-OF-THE-FUNCTION
  mkdir -p "$scratch/mistake"
  printf 'cmake_minimum_required(VERSION 3.25)\nproject(m LANGUAGES CXX)\nfind_package(pare REQUIRED)\n%s\n' \
    "$2" >"$scratch/mistake/CMakeLists.txt"
  ! cmake -S "$scratch/mistake" -B "$scratch/mistake/build" -G "$generator" \
    -DCMAKE_PREFIX_PATH="$scratch/prefix" -DCMAKE_CXX_COMPILER="$cxx" >"$log" 2>&1 ||
    fail "not refused: $2"
  grep -q "$1" "$log" || fail "not named: $1"
}
mistake "OUTPUT is missing" 'pare_quantize(TARGET a MODEL m)'
mistake "unknown arguments" 'pare_quantize(TARGET a MODEL m OUTPUT o.h5 FORMAT fp8)'
mistake "no gate given" 'pare_accuracy_gate(TARGET a BASELINE m CANDIDATE o.h5)'
mistake "not one of pare_quantize" \
  'add_custom_target(t)
pare_accuracy_gate(TARGET a BASELINE ../demo/model CANDIDATE t MAX_LOSS 1%)'
mistake "not there" 'pare_quantize(TARGET a MODEL m OUTPUT o.h5)'
mistake "names a form twice" 'pare_quantize(TARGET a MODEL m OUTPUT o EXPORT gguf gguf)'
mistake "ARGS has --export" 'pare_quantize(TARGET a MODEL m OUTPUT o ARGS --export gguf)'
mistake "ARGS has --tp_size" 'pare_quantize(TARGET a MODEL m OUTPUT o ARGS --tp_size 2)'
mistake "one format a step" 'pare_quantize(TARGET a MODEL m OUTPUT o.h5 QFORMAT "fp8,int8_wo")'
echo "==> Build steps are good"
