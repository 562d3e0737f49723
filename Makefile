# Every target sets itself up: `.venv` is made once and again only when a lock file or pyproject.toml has changed.
# A fresh machine needs Python 3.11 or newer with pip, and make.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run setup test check fmt bench docs chaos fuzz lock

# 3.11 and 3.12 first: the wheel with the Redis server that `make run` starts exists for these two.
# Of several, one that was optimised or has no libpython.so beside it: a call takes what pyenv builds a sixth more.
USABLE := import importlib.util, sys; \
	sys.exit(sys.version_info < (3, 11) or not any(map(importlib.util.find_spec, ("ensurepip", "pip"))))
FAST := import sysconfig, sys; sys.exit("--enable-optimizations" not in sysconfig.get_config_var("CONFIG_ARGS") \
	and "libpython" in open("/proc/self/maps").read())
PYTHON ?= $(shell IFS=:; for name in python3.11 python3.12 python3 python; do \
	for wanted in '$(FAST)' ''; do for folder in $$PATH; do python="$${folder:-.}/$$name"; \
		"$$python" -c '$(USABLE)' 2>/dev/null && "$$python" -c "$$wanted" 2>/dev/null && { echo "$$python"; exit; }; \
	done; done; done)
BIN := .venv/bin
# Errors only: its warnings about a machine's own configuration filled the first command's screen.
INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --progress-bar off

help:
	@echo "make run     start the embedded stack and show a tour (Ctrl-C stops it)"
	@echo "make test    run the tests and print the coverage (those of the layout are in check)"
	@echo "make check   format, lint, types, import contracts, dependencies, layout"
	@echo "make fmt     format, and fix what can be fixed"
	@echo "make bench   measure speed against the bare upstream"
	@echo "make docs    write the pages that are made from the tests"
	@echo "make chaos   kill, hold up and wipe real processes under 1000 jobs (JOBS=, KILLS=, SEED=)"
	@echo "make fuzz    throw ten minutes of made-up requests at the API, from its own schema"
	@echo "make setup   only create .venv, with everything for development"
	@echo "make lock    resolve the lock files again (UPGRADE=1: to newer releases)"

# One shell line and `exec`: a signal sent to make's child is a signal to sluiceway.
run: .venv/.installed
	@exec $(BIN)/sluiceway dev --tour

setup: .venv/.installed-dev
	@:

# Hundreds of processes are started: each would compile everything again without bytecode on disk.
test: .venv/.installed-dev
	@echo "Running the tests ..."
	@rm -f .coverage .coverage.*
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/coverage run -m pytest -n 4 --dist worksteal --reruns 1 -rfER --ignore tests/layout; status=$$?; \
		$(BIN)/coverage combine --quiet && $(BIN)/coverage report || [ $$status -ne 0 ] || status=2; \
		exit $$status

check: .venv/.installed-dev
	@echo "Format ..." && $(BIN)/ruff format --check --quiet
	@echo "Lint ..." && $(BIN)/ruff check --quiet
	@echo "Types ..." && $(BIN)/mypy
	@echo "Import contracts ..." && $(BIN)/lint-imports
	@echo "Dependencies ..." && $(BIN)/deptry .
	@echo "Layout ..." && $(BIN)/pytest tests/layout -q

fmt: .venv/.installed-dev
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

bench: .venv/.installed-dev
	@$(BIN)/python -m tests.bench

docs: .venv/.installed-dev
	@$(BIN)/python -m tests.layout.conformance

# With the printed seed the same things go wrong in the same order, if not at the same instant.
chaos: .venv/.installed-dev
	@SLUICEWAY_CHAOS_EXAMPLES=300 SLUICEWAY_CHAOS_FULL=1 SLUICEWAY_CHAOS_JOBS=$(or $(JOBS),1000) \
		SLUICEWAY_CHAOS_KILLS=$(or $(KILLS),20) SLUICEWAY_CHAOS_SEED=$(or $(SEED),0) \
		$(BIN)/pytest tests/chaos -q -s --timeout 0 -o faulthandler_timeout=0

fuzz: .venv/.installed-dev
	@SLUICEWAY_FUZZ_S=600 $(BIN)/pytest tests/edge/api/test_schema_fuzz.py -q -o faulthandler_timeout=0

# Only releases at least a week old: a poisoned one is usually found in days.
COMPILE = .venv-lock/bin/uv pip compile pyproject.toml --extra embedded --group build --universal \
	--python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet \
	--exclude-newer "7 days" $(if $(UPGRADE),--upgrade)
lock:
	@echo "Resolving the lock files ..."
	@"$(PYTHON)" -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.8
	@$(COMPILE) --output-file requirements.lock
	@$(COMPILE) --output-file requirements-dev.lock --group dev --constraint requirements.lock
	@rm -rf .venv-lock

.venv/.installed: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing the locked dependencies into .venv (about half a minute) ..."
	@$(INSTALL) --require-hashes --requirement requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# The development lock is a superset, so after it there is nothing left for `make run` to install.
.venv/.installed-dev: requirements-dev.lock requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing the locked dependencies for development into .venv (about a minute) ..."
	@$(INSTALL) --require-hashes --requirement requirements-dev.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch .venv/.installed $@

# Some distributions ship Python without ensurepip; there the system's pip fills the new environment.
$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "Sluiceway needs Python 3.11 or newer, and found none on PATH." >&2; exit 1; }
	@echo "Creating .venv with $(PYTHON) ..."
	@"$(PYTHON)" -m venv --clear .venv >/dev/null 2>&1 || { "$(PYTHON)" -m venv --clear --without-pip .venv \
		&& "$(PYTHON)" -m pip --python $@ install --quiet pip; }
