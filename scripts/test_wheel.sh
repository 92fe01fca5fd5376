#!/usr/bin/env bash
# Builds the wheel by way of the source archive, installs it into a fresh environment outside the
# tree and runs the tests against it there, where no source file of the product can be imported.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Without --wheel, build makes the wheel from the unpacked source archive: nothing stale of build/
# can get in, and the archive is proved to be complete.
"$python" -m build --outdir "$scratch/dist" . > "$scratch/build.log" 2>&1 || {
  tail -n 40 "$scratch/build.log" >&2
  echo "error: the wheel could not be built" >&2
  exit 1
}
wheel=$(echo "$scratch"/dist/perdure-*.whl)
echo "built   $(basename "$wheel")"

"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check \
  "$wheel[server,client]" "pytest>=8.3" "hypothesis>=6.100" "pydantic>=2"
echo "installed into an environment of its own"

# The tests and what they read besides the product, and nothing else.
mkdir "$scratch/tree"
cp -R tests examples docs pyproject.toml "$scratch/tree/"
find "$scratch/tree" -name __pycache__ -type d -prune -exec rm -rf {} +
cd "$scratch/tree"
env -u PYTHONPATH PERDURE_TEST_WHEEL=1 "$scratch/venv/bin/pytest" -p no:cacheprovider "$@"
