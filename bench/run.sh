#!/usr/bin/env bash
# Measure Perdure beside the peer. Installs the peer into bench/scratch on first use.
# Options: bench/run.sh --help. Called by `make bench`, which makes .venv first.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -x .venv/bin/python ]; then
  echo "error: .venv is not there. Make it first: make setup" >&2
  exit 2
fi
exec .venv/bin/python -m bench "$@"
