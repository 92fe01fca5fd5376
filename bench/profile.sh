#!/usr/bin/env bash
# Where Perdure's time goes under load: py-spy profiles of the node and of the worker, written to
# bench/scratch/profile. Options: bench/profile.sh --help.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -x .venv/bin/python ]; then
  echo "error: .venv is not there. Make it first: make setup" >&2
  exit 2
fi
exec .venv/bin/python -m bench.profile "$@"
