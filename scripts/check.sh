#!/usr/bin/env bash
# Everything that is checked without running the product: links, format, lint, types, protobuf.
# Runs every check before it gives up, so that one run shows all there is to mend.
set -uo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
failed=()

check() {
  local name=$1
  shift
  local output
  if output=$("$@" 2>&1); then
    echo "ok      $name"
  else
    echo "FAILED  $name: $*"
    printf '%s\n' "$output"
    failed+=("$name")
  fi
}

check "links are links" sh scripts/check_links.sh
check "format" "$python" -m ruff format --check .
check "lint" "$python" -m ruff check .
check "types" "$python" -m mypy
check "protobuf" env PYTHON="$python" scripts/proto.sh --check

if [ ${#failed[@]} -gt 0 ]; then
  echo "checks failed: ${failed[*]}" >&2
  exit 1
fi
