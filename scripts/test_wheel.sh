#!/usr/bin/env bash
# Builds the wheel by way of the source archive, installs it into a fresh environment outside the
# tree, imports every module of it and runs the tests that use the product as its users do, where no
# source file of the product can be imported. What works only on pure parts and in the simulator has
# nothing to do with how the product was packed, and stays with the tests of the tree.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
in_two="${IN_TWO-$(sh scripts/in_two.sh)}"
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
  "$wheel[server,client]" "pytest>=8.3" "pytest-xdist>=3.6" "hypothesis>=6.100" "pydantic>=2"
echo "installed into an environment of its own"

# The tests and what they read besides the product, and nothing else.
mkdir "$scratch/tree"
cp -R tests examples docs pyproject.toml "$scratch/tree/"
find "$scratch/tree" -name __pycache__ -type d -prune -exec rm -rf {} +
cd "$scratch/tree"
export PERDURE_TEST_WHEEL=1
unset PYTHONPATH
"$scratch/venv/bin/python" - << 'PYTHON'
import importlib
import pkgutil

import perdure

names = [module.name for module in pkgutil.walk_packages(perdure.__path__, "perdure.")]
for name in names:
    importlib.import_module(name)
print(f"imported {len(names)} modules")
PYTHON
if [ "$#" -eq 0 ]; then
  # Of what kills and cuts off whole processes, what shows that the programs of the wheel work.
  set -- tests/admin tests/compat tests/e2e/test_dev.py tests/e2e/test_sigkill.py \
    tests/e2e/test_story.py tests/e2e/test_up.py tests/ingress tests/node tests/sdk tests/testing \
    tests/test_examples.py
fi
# shellcheck disable=SC2086 # Several words.
"$scratch/venv/bin/pytest" -p no:cacheprovider $in_two "$@"
