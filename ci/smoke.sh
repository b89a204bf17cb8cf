#!/usr/bin/env bash
# Takes a wheel of depload through one example, in an environment that has nothing else of this repository:
# ci/smoke.sh WHEEL. PYTHON picks the interpreter.
set -euo pipefail

wheel=$(realpath "$1")
example=$(realpath "$(dirname "$0")/../test_artifacts/pure_python.zip")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" # away from src/

uv venv --quiet --python "${PYTHON:-3.12}" venv
uv pip install --quiet --python venv/bin/python "depload[cli,local] @ file://$wheel"
PATH=$scratch/venv/bin:$PATH

depload --version
depload detect "$example"
path=$(depload convert "$example" --base "$scratch/base" --json |
  python -c 'import json, sys; print(json.load(sys.stdin)["path"])')
depload load "$path" --import user_modules.calculator
depload cleanup "$path"
test -z "$(ls -A base)" # nothing is left behind
