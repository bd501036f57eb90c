# Millrace. `make` prints what there is. Set-up is done once per change of pyproject.toml.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory --no-builtin-rules

PYTHON ?= python3
WORKERS ?= 2
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet --no-input
# The stamps carry the contents of pyproject.toml and the place of the checkout: a moved or changed
# checkout is set up again, a merely touched file is not.
MADE := $(VENV)/.made
KEY := $(shell { cat pyproject.toml; pwd; } | sha256sum | cut -c1-12)
RUNTIME := $(MADE)/runtime-$(KEY)
DEV := $(MADE)/dev-$(KEY)

.PHONY: help run test check bench docs setup clean format packages

help: ## print this help
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | \
		while IFS=$$'\t' read -r target what; do printf '  make %-8s %s\n' "$$target" "$$what"; done

run: $(RUNTIME) ## set up what the product needs and bring it up with a simulated town; ARGS="--port 9000"
	@exec $(BIN)/millrace up --demo $(ARGS)

test: $(DEV) packages ## set up all that the tests need and run the whole suite; ARGS="-k feed"
	@exec $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: $(DEV) ## format, lint, types, import contracts, dependencies, tidy tests: under a minute
	@echo "format"; $(BIN)/ruff format --check --quiet src tests || { echo "next: make format"; exit 1; }
	@echo "lint"; $(BIN)/ruff check --quiet src tests
	@echo "types"; $(BIN)/pyright --warnings
	@echo "import contracts"; $(BIN)/lint-imports --no-cache | tail -n 2
	@echo "dependencies"; $(BIN)/deptry . 2>&1 | tail -n 20
	@echo "tidy tests"; $(BIN)/python -m pytest -q -n $(WORKERS) tests/tidy

bench: $(DEV) ## measure the index beside its peer, each on one thread; ARGS="--quick --json"
	@exec $(BIN)/millrace bench index $(ARGS)

docs: $(RUNTIME) ## write the generated documents anew: docs/cli.md
	@$(BIN)/python -m millrace.cli.reference > docs/cli.md.new && mv docs/cli.md.new docs/cli.md
	@echo "wrote docs/cli.md"

setup: $(DEV) packages ## set up everything, for work on the code
	@echo "ready: $(BIN)/millrace --help"

format: $(DEV) ## format the code and mend what the linter can mend
	@$(BIN)/ruff format src tests; $(BIN)/ruff check --fix src tests

clean: ## remove the virtual environment and every cache; the data directory stays
	@rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache dist build
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------- set-up, in steps

$(BIN)/python:
	@echo "set-up: virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is too old; Millrace needs Python 3.11 or newer: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || .ci/packages python3-venv
	@$(PYTHON) -m venv $(VENV)

# torch comes first and pinned exactly: a later request finds it satisfied, any other request may
# pull gigabytes of GPU packages.
$(RUNTIME): | $(BIN)/python
	@$(PIP) install --upgrade 'pip>=25.1'
	@echo "set-up: PyTorch (about 200 MB)"
	@$(PIP) install "$$(grep -oE 'torch==[0-9.]+' pyproject.toml | head -n 1)"
	@echo "set-up: Millrace and its libraries (about 250 MB)"
	@$(PIP) install --editable .
	@mkdir -p $(MADE) && rm -f $(MADE)/runtime-* && touch $@

$(DEV): $(RUNTIME)
	@echo "set-up: tools for tests and checks"
	@$(PIP) install --group dev
	@rm -f $(MADE)/dev-* && touch $@

# Asked each time, because it costs nothing and the reason for a skip is worth repeating.
packages:
	@.ci/packages --optional chromium postgresql
