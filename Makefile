# Two commands do everything on a machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench sim openapi reference lock clean

help:  ## Show the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m netting
	@touch $(STAMP)

demo: $(STAMP)  ## Run a whole clearing day on this machine (six banks, embedded PostgreSQL)
	$(BIN)/concordat demo $(ARGS)

test: $(STAMP)  ## Run the tests
	$(BIN)/pytest -q -n auto --dist loadfile $(ARGS)

check: $(STAMP)  ## Formatter, linter, strict types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## Run the benchmarks, each beside its peers
	$(BIN)/python -m tests.benchmarks $(ARGS)

sim: $(STAMP)  ## Run the seeded whole-federation simulation: make sim SEED=7
	CONCORDAT_SIM_SEED=$(SEED) $(BIN)/pytest -q tests/simulation $(ARGS)

openapi: $(STAMP)  ## Rewrite the published descriptions of the HTTP APIs
	$(BIN)/python -m tests.contract

reference: openapi  ## Rewrite the generated pages of docs/reference
	$(BIN)/python -m tests.reference

lock:  ## Rewrite requirements.lock from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements.lock

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
