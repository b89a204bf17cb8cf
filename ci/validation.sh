#!/usr/bin/env bash
# Runs the jobs that prove depload in a workspace, some at a time, and fetches the JUnit that each of them writes:
# ci/validation.sh TARGET RUN RESULTS. RUN names this run, RESULTS is a directory here. AT_ONCE (4) and JOBS can be set.
set -euo pipefail

target=$1
run=$2
mkdir -p "$3"
results=$(realpath "$3")
cd "$(dirname "$0")/.."

jobs="
  dynamic_deps_cluster
  test_pure_python test_packaged test_existing_wheels test_mixed test_nested
  test_pure_python_serverless test_packaged_serverless test_existing_wheels_serverless
  test_mixed_serverless test_nested_serverless
"
read -r -d '' -a jobs <<<"${JOBS:-$jobs}" || true

base=$(databricks bundle validate --target "$target" --output json |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["variables"]["volume_base_path"]["value"])')
there=$base/junit-$run

run_job() { # its log comes in one piece, when it has ended
  local status=0 log
  log=$(databricks bundle run --target "$target" "$1" --params "junit=$there/$1.xml" 2>&1) || status=$?
  printf '=== %s ended with %s\n%s\n' "$1" "$status" "$log"
  return "$status"
}
export -f run_job
export target there

failed=0
printf '%s\n' "${jobs[@]}" | xargs -P "${AT_ONCE:-4}" -I '{}' bash -c 'run_job {}' || failed=1
databricks fs cp --recursive --overwrite "dbfs:$there" "$results" || failed=1

# A run may end well without having proven anything; and one that could not start shall be seen beside the others.
for job in "${jobs[@]}"; do
  if [ ! -s "$results/$job.xml" ]; then
    failed=1
    printf '<testsuites><testsuite name="%s" tests="1" errors="1"><testcase classname="%s" name="run"><error message="%s"/>%s\n' \
      "$job" "$job" "the run left no JUnit; its log says why" "</testcase></testsuite></testsuites>" >"$results/$job.xml"
  fi
done
exit "$failed"
