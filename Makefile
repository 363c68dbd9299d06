# make demo   sets up what it needs and shows the whole road on the shipped model and the virtual board
# make test   sets up and runs the tests and the checks
# make bench  counts every figure of the compiler (tests/bench/bench_convert.py takes a checkpoint, and times)
# make soak   the long campaigns: fault seeds and fuzzing; writes tests/soak.json

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ifeq ($(OS),Windows_NT)
BIN    := $(VENV)/Scripts
endif
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: setup demo test lint soak bench clean

setup: $(VENV)/.edge

$(VENV)/.edge: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
		{ echo "edge needs Python 3.10 to 3.13: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.edge
	@$(PIP) install -e '.[dev]'
	@touch $@

demo: $(VENV)/.edge
	@$(BIN)/edge demo

lint: $(VENV)/.dev
	@$(BIN)/ruff check -q . && $(BIN)/ruff format -q --check . && $(BIN)/mypy

test: lint
	@$(BIN)/python -m pytest -n auto --dist loadgroup $(PYTEST)

soak: $(VENV)/.dev
	@$(BIN)/python tests/soak.py

bench: $(VENV)/.dev
	@for name in counts bench_ops bench_int8; do $(BIN)/python tests/bench/$$name.py; done

clean:
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
