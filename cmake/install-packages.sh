#!/usr/bin/env bash
# Installs what is missing of cmake/debian-packages.txt. With --lint or --report, what is under that
# heading too.
set -euo pipefail
list=$(dirname "$0")/debian-packages.txt

if ! command -v dpkg-query >/dev/null; then
  echo "This is no Debian system: install the equivalents of $list yourself." >&2
  exit 0
fi
missing=()
wanted=true
while read -r package command; do
  case $package in
    "[lint]" | "[report]") [[ ${1:-} == "--${package:1:-1}" ]] && wanted=true || wanted=false ;;
    "#"* | "") ;;
    *)
      $wanted || continue
      # Programs may have come from elsewhere.
      if [[ -n $command ]] && command -v "$command" >/dev/null; then continue; fi
      if [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
        missing+=("$package")
      fi
      ;;
  esac
done <"$list"

if [[ ${#missing[@]} -eq 0 ]]; then
  echo "==> Packages: all there"
  exit 0
fi
as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "Missing packages; as root, run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "==> Packages: installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
