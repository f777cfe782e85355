# Every target makes its own virtual environment in .venv and installs what it needs from the project's own files.
# Windows: the same commands are written beside these in README.md.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev

.PHONY: demo demo-postgresql test lint types architecture contract proto bench chaos lock clean check

demo: $(STAMP)
	$(BIN)/his160 demo

demo-postgresql: $(DEV)
	$(BIN)/his160 demo --his postgresql

test: $(DEV)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV)
	$(BIN)/mypy

architecture: $(DEV)
	$(BIN)/lint-imports --no-cache

contract: $(DEV)
	$(BIN)/python tools/generate_contract.py --lint
	$(BIN)/python tools/generate_contract.py --check

check: lint types architecture contract

proto: $(DEV)
	$(BIN)/python tools/generate_contract.py
	$(BIN)/python tools/generate_contract.py --lint

bench: $(DEV)
	$(BIN)/python -m tests.bench

# The versions that were resolved and tested, without any index address.
lock: $(DEV)
	$(BIN)/python tools/lock.py

clean:
	rm -rf $(VENV) build dist *.egg-info var

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(STAMP): $(VENV)/.made pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable .
	touch $@

$(DEV): $(VENV)/.made pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev,demo-postgresql]'
	touch $@ $(STAMP)
