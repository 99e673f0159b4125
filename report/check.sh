#!/usr/bin/env bash
# Checks that page.html is what its sources build, byte for byte, and that it works in a headless
# Chromium. Ends with another status than 0 on any difference.
#   report/check.sh [PAGE.html …]     pages that accuracy-eval --report wrote are checked as well
set -euo pipefail
pages=()
for page in "$@"; do pages+=("$(realpath "$page")"); done
cd "$(dirname "$0")"

for program in node npm; do
  if ! command -v "$program" >/dev/null; then
    echo "report/check.sh: $program is missing: install Debian's nodejs and npm, version 18 or later" >&2
    exit 1
  fi
done

echo "==> Report page: packages"
npm ci --silent

echo "==> Report page: page.html equals its sources"
mkdir -p test/out
node build.js test/out/rebuilt.html
if ! cmp page.html test/out/rebuilt.html; then
  echo "report/page.html is not what report/src builds: run 'npm run build' in report/ and commit it" >&2
  exit 1
fi

echo "==> Report page: browser"
node test/browser.js
if [[ ${#pages[@]} -gt 0 ]]; then node test/browser.js "${pages[@]}"; fi
