# The one door to everything that is done with this repository. `make` lists the targets.
#
# Needs make and Python 3.11 or newer; everything else goes into .venv. Another Python:
# `make PYTHON=python3.12 …`.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# Written last, so that an interrupted installation is begun again.
STAMP := $(VENV)/.installed
# What runs the product, without the tools that check it: half the time to the first demo.
STAMP_SERVER := $(VENV)/.installed-server
PYTEST_ARGS ?=
# Two processes share the tests where there is more than one core. For one process, as --pdb and -s
# need it: `make test PYTEST_ARGS="-n0 --pdb …"`.
IN_TWO ?= $(shell sh scripts/in_two.sh)

.DEFAULT_GOAL := help
FIRST_SEED ?= 0
.PHONY: help setup demo test nightly check test-wheel proto bench clean links

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

links:
	@sh scripts/check_links.sh

setup: links $(STAMP) ## Make the virtual environment .venv with everything in it

$(STAMP): EXTRAS := server,dev
$(STAMP_SERVER): EXTRAS := server
$(STAMP) $(STAMP_SERVER): pyproject.toml
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "error: $(PYTHON) is not there. Install Python 3.11 or newer, or name one:" \
	    "make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $$($(PYTHON) --version 2>&1) is too old: Perdure needs 3.11 or newer." \
	    "Name another one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: this Python has no venv. On Debian and Ubuntu:" \
	    "sudo apt install python3-venv" >&2; exit 1; }
	@echo "setup   installing into $(VENV)"
	@test -x $(RUN) && $(RUN) -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	@touch $@

demo: links ## Three nodes, calls, a leader killed under load, nothing lost: the story end to end
	@$(MAKE) -s --no-print-directory $(if $(wildcard $(STAMP)),$(STAMP),$(STAMP_SERVER))
	@$(RUN) scripts/demo.py

test: setup ## All checks, then all tests
	@scripts/check.sh
	@$(VENV)/bin/pytest $(IN_TWO) $(PYTEST_ARGS)

nightly: setup ## The long proofs, an hour or so; FIRST_SEED=N for other seeds than last time
	@PERDURE_MODEL_SEEDS=2000 PERDURE_MODEL_FIRST_SEED=$(FIRST_SEED) \
	  $(VENV)/bin/pytest -s tests/log/test_conditional_model.py
	@$(VENV)/bin/perdure sim --seeds 5000 --first $(FIRST_SEED) --jobs 2
	@$(VENV)/bin/perdure sim --snapshots --seeds 2000 --first $(FIRST_SEED) --jobs 2
	@$(VENV)/bin/perdure sim --nodes --seeds 2000 --first $(FIRST_SEED) --jobs 2
	@$(VENV)/bin/perdure sim --histories --seeds 50000 --first $(FIRST_SEED) --jobs 2
	@PERDURE_E2E_KILLS=50 $(VENV)/bin/pytest -s tests/e2e/test_sigkill.py

check: setup ## Links, format, lint, types, generated protobuf
	@scripts/check.sh

test-wheel: setup ## Build the wheel and run the tests against it, away from the tree
	@scripts/test_wheel.sh $(PYTEST_ARGS)

proto: setup ## Regenerate proto/generated from proto/*.proto
	@scripts/proto.sh

bench: setup ## Measure calls per second and latency beside a named peer (needs wrk and npm)
	@bash bench/run.sh

clean: ## Remove what make made: environment, caches, builds, benchmark scratch
	@rm -rf $(VENV) build dist bench/scratch src/perdure.egg-info
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
