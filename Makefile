# Everything runs from .venv, made from the lock files; nothing else needs to be installed beforehand.
PYTHON ?= python3
BASE_URL ?= http://127.0.0.1:$(or $(API_PORT),8080)
# Tests wait more than they compute: three processes keep two processors busy.
PROCESSES ?= 3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check
FILES := api worker shared cli alembic tests bench leaderboard_client examples

.DEFAULT_GOAL := help
.PHONY: help run test faults bench check demo load screenshots lock format clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

.venv/run.stamp: locks/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=…")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv || \
		{ rm -rf .venv; echo "$(PYTHON) can't make a virtual environment; Debian has that in python3-venv" >&2; exit 1; }
	@echo "installing into .venv …"
	@$(PIP) install --quiet --requirement locks/run.txt
	@$(PIP) install --quiet --no-deps --editable .
	@touch $@

.venv/dev.stamp: locks/dev.txt .venv/run.stamp
	@$(PIP) install --quiet --requirement locks/dev.txt
	@touch $@

run: .venv/run.stamp ## embedded PostgreSQL and Valkey, api and worker, in the foreground
	@$(BIN)/leaderboard run

demo: .venv/run.stamp ## replay 60,746 real events against a running service
	@$(BIN)/leaderboard demo --base-url $(BASE_URL)

load: .venv/dev.stamp ## k6 load scripts against a running service
	@BASE_URL=$(BASE_URL) PATH="$(CURDIR)/$(BIN):$$PATH" k6/run

test: .venv/dev.stamp ## all tests, in PROCESSES=3 processes with servers of their own (0: in one)
	@$(BIN)/pytest -n $(PROCESSES)

faults: .venv/dev.stamp ## every fault many times over, 30 to 45 minutes; writes .faults/result.md
	@FAULTS=long $(BIN)/pytest --verbose tests/faults

bench: .venv/dev.stamp ## speed beside its limits, 25 minutes; QUICK=1 takes 2 to 3; ARGS="--help" tells more
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(ARGS)

screenshots: .venv/dev.stamp ## renew docs/screenshots from a running service, after make demo
	@$(BIN)/python -m bench.screenshots --base-url $(BASE_URL) $(ARGS)

check: .venv/dev.stamp ## linters, types, layers, compose and terraform files
	$(BIN)/ruff check $(FILES)
	$(BIN)/ruff format --check $(FILES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	POSTGRES_PASSWORD=x $(BIN)/docker-compose config --quiet
	$(BIN)/shellcheck terraform/instance/leaderboard-*
	@if command -v terraform > /dev/null; then terraform fmt -check -diff -recursive terraform; \
		else echo "terraform is not installed here: its files are not checked"; fi

format: .venv/dev.stamp ## put the code in its form
	$(BIN)/ruff format $(FILES)
	$(BIN)/ruff check --fix $(FILES)

# UPGRADE=1 takes newer versions. No index is named in the result: pip's own settings decide where to fetch from.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) pyproject.toml
lock: .venv/dev.stamp ## write locks/ from pyproject.toml
	$(LOCK) --extra otel --output-file locks/runtime.txt
	$(LOCK) --extra embedded --constraint locks/runtime.txt --output-file locks/run.txt
	$(LOCK) --extra dev --constraint locks/run.txt --constraint locks/runtime.txt --output-file locks/dev.txt

clean: ## remove .venv and caches; data under .data stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
