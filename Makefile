# Two commands do everything on a machine with Python 3.11+ and make: `make demo` and `make test`. Each installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# A lock file is whole, so pip resolves nothing: it would refuse what pyproject.toml overrides.
LOCKED := $(PIP) --no-deps --require-hashes -r
# What is installed: what a run needs; with it, what tests and checks need; with it, the benchmarks' peers.
RUN := $(VENV)/.installed
TEST := $(VENV)/.installed-test
BENCH := $(VENV)/.installed-bench

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench sim chaos core openapi reference lock clean

help:  ## Show the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(RUN): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(LOCKED) requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(TEST) $(BENCH): $(RUN)
$(VENV)/.installed-%: requirements-%.lock
	$(LOCKED) $<
	@touch $@

demo: $(RUN)  ## Run a whole clearing day on this machine (six banks, embedded PostgreSQL)
	$(BIN)/concordat demo $(ARGS)

test: $(TEST)  ## Run the tests
	@$(BIN)/python -m netting
	@$(BIN)/python -m participants.reconciliation
	$(BIN)/pytest -q -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(TEST)  ## Formatter, linter, strict types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(TEST)  ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(BENCH)  ## Run the benchmarks, each beside its peers; ARGS=--help lists them
	@$(BIN)/python -m netting
	@$(BIN)/python -m participants.reconciliation
	$(BIN)/python -m tests.benchmarks $(ARGS)

sim: $(TEST)  ## Run the seeded whole-federation simulation: make sim SEED=7; or a cycle of many banks: make sim BANKS=2000
ifdef BANKS
	@$(BIN)/python -m netting
	$(BIN)/python -m tests.simulation.many_banks --banks $(BANKS) $(ARGS)
else
	CONCORDAT_SIM_SEED=$(SEED) $(BIN)/pytest -q tests/simulation $(ARGS)
endif

chaos: $(TEST)  ## Break a federation on purpose for minutes, and see it heal: make chaos SEED=7 MINUTES=5
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

core: $(TEST)  ## Kill the guide's core system at random for minutes, and see it book each credit once: make core MINUTES=60
	CONCORDAT_CORE_MINUTES=$(or $(MINUTES),60) $(BIN)/pytest -q tests/integration/test_core_system.py $(ARGS)

openapi: $(TEST)  ## Rewrite the published descriptions of the HTTP APIs
	$(BIN)/python -m tests.contract

reference: openapi  ## Rewrite the generated pages of docs/reference
	$(BIN)/python -m tests.reference

# The versions of a lock file stay as long as they may: delete the file to take newer ones.
UV_LOCK := uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --no-header

lock:  ## Rewrite the lock files from pyproject.toml (needs uv)
	$(UV_LOCK) pyproject.toml --group build -o requirements.lock
	$(UV_LOCK) --group test -c requirements.lock -o requirements-test.lock
	$(UV_LOCK) --group bench -c requirements.lock -c requirements-test.lock -o requirements-bench.lock

clean:  ## Remove the virtual environment, caches and compiled kernels
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
