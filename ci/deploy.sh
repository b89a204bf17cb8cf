#!/usr/bin/env bash
# Deploys the bundle with the wheel that was tested: ci/deploy.sh TARGET WHEEL. The databricks CLI must be logged in.
set -euo pipefail

target=$1
wheel=$(realpath "$2")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$(dirname "$0")/.."

# The bundle builds its wheel anew. The backend that made the tested one makes the same bytes of the same commit.
unzip -p "$wheel" '*.dist-info/WHEEL' | sed -n 's/^Generator: \([^ ]*\) \([^ ]*\)\r\{0,1\}$/\1==\2/p' >"$scratch/backend.txt"
export UV_BUILD_CONSTRAINT=$scratch/backend.txt
uv build --quiet --wheel --out-dir "$scratch/again"
cmp "$wheel" "$scratch"/again/*.whl

databricks bundle deploy --target "$target"
cmp "$wheel" dist/*.whl
