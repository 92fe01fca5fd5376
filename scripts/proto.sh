#!/usr/bin/env bash
# Regenerates proto/generated/ from proto/*.proto; with --check it only compares and fails on a difference.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$python" -m grpc_tools.protoc -I src --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" src/perdure/proto/*.proto
made="$out/perdure/proto"
# Generated code imports relatively, so that the product is one set of modules under every name it is reached by.
sed -i -E 's/^from perdure\.proto import/from . import/' "$made"/*.py "$made"/*.pyi
# Only the ingress has a service; a stub file without one is dead.
for stub in "$made"/*_pb2_grpc.py; do
  grep -q '^class .*Stub' "$stub" || rm "$stub"
done
printf '"""Made by scripts/proto.sh from proto/*.proto; never edited."""\n' > "$made/__init__.py"
if [ "${1:-}" = "--check" ]; then
  diff -ru --exclude=__pycache__ proto/generated "$made" || {
    echo "proto/generated does not match proto/*.proto: run scripts/proto.sh and commit the result" >&2
    exit 1
  }
else
  rm -rf proto/generated
  cp -r "$made" proto/generated
fi
