# Two commands do everything on a machine that has Python 3.11 or newer, pip and make:
#   make demo    set up .venv, train on Python's own documentation for about two minutes, print what the model writes
#   make test    set up .venv, run the whole test suite
# TORCH is installed first. On Linux without a GPU, PyPI's build brings gigabytes of CUDA; the CPU build is
#   make demo TORCH="torch --index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo test check slow faults fuzz native clean

demo: .venv/installed
	rm -rf $(DEMO)
	$(BIN)/glassgpt train pydoc --out $(DEMO) --minutes 1.5
	$(BIN)/glassgpt generate $(DEMO) --prompt "The function returns" --max-new-tokens 150

test: .venv/installed-dev
	$(BIN)/python -m pytest

check: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/pyrefly check
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not thorough"

slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

faults: .venv/installed-dev
	$(BIN)/python -m pytest tests/faults --full --durations 10

fuzz: .venv/installed-dev
	$(BIN)/python tests/faults/fuzz.py all --seconds 1800

native: .venv/installed
	$(BIN)/python hatch_build.py

clean:
	rm -rf .venv .pytest_cache .hypothesis .ruff_cache .import_linter_cache

.venv/installed: pyproject.toml hatch_build.py $(wildcard native/*)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@
