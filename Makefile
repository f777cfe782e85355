# Every target makes its own virtual environment in .venv and installs what it needs from the project's own files.
# Windows: the same commands are written beside these in README.md.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev

# What the tests and checks need: our tools, a PostgreSQL server from a wheel, Microsoft's ODBC driver for SQL Server.
EXTRAS := dev,demo-postgresql,mssql

.PHONY: demo demo-postgresql test soak lint types architecture contract proto bench lock clean check

demo: $(STAMP)
	$(BIN)/his160 demo

demo-postgresql: $(DEV)
	$(BIN)/his160 demo --his postgresql

# Two workers, a file to each at a time: the servers and sample hospitals of a file are made once.
test: $(DEV)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(PYTEST_ARGS)

# The long forms of what `make test` does briefly.
soak: $(DEV)
	HIS160_EDITS=1000 $(BIN)/python -m pytest tests/e2e/test_reload.py

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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[$(EXTRAS)]'
	touch $@ $(STAMP)
