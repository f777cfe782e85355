# Every target makes its own virtual environment in .venv and installs what it needs from the project's own files.
# Windows: the same commands are written beside these in README.md.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev

# What the tests and checks need: our tools, a PostgreSQL server from a wheel, Microsoft's ODBC driver for SQL Server.
EXTRAS := dev,demo-postgresql,mssql

.PHONY: demo demo-postgresql test test-again test-windows chaos race soak lint types architecture contract proto bench lock clean check

demo: $(STAMP)
	$(BIN)/his160 demo --reports build/demo

demo-postgresql: $(DEV)
	$(BIN)/his160 demo --his postgresql --reports build/demo-postgresql

# Workers that are given a file at a time: the servers and sample hospitals of a file are made once. More of them than
# processors, because processes that die and come back are waited for; long files first (tests/conftest.py).
WORKERS ?= 4
test: $(DEV)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore tests/windows $(PYTEST_ARGS)

# What failed in the last `make test`, once more and one after the other: docs/decisions/0028.
test-again: $(DEV)
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none --maxfail 1 --ignore tests/windows $(PYTEST_ARGS)

# Kills the agent at every point of every command, on SQLite, PostgreSQL and (reduced) MariaDB; the table is a page of docs.
# Before that, the process that watches and delivers, a few thousand times (`tests/kills`).
# Hours; with `python -m tests.chaos --seed N --journal FILE` it may be ended at any moment and gone on with.
chaos: $(DEV)
	HIS160_STRIKES=all $(BIN)/python -m pytest --numprocesses 2 tests/unit/sync/test_saga_faults.py --timeout=1800
	$(BIN)/python -m tests.kills --markdown docs/reliability.md
	$(BIN)/python -m tests.chaos --markdown docs/chaos.md

# On Windows Python under wine (docs/windows.md), apart from `make test`. It ends after WINDOWS_LIMIT seconds at the latest,
# and with it whatever it started.
WINDOWS_LIMIT ?= 1500
test-windows: $(DEV)
	$(BIN)/python -m tools.windows_tests --seconds $(WINDOWS_LIMIT) $(PYTEST_ARGS)

# The long forms of what `make test` does briefly.
race: $(DEV)
	$(BIN)/python -m tests.race --markdown docs/reliability.md

soak: $(DEV)
	HIS160_EDITS=1000 $(BIN)/python -m pytest tests/e2e/test_reload.py
	HIS160_CHANCE=1 $(BIN)/python -m pytest --numprocesses 2 tests/unit
	HIS160_POWER_CUTS=1000 $(BIN)/python -m pytest --timeout 3600 tests/conformance/test_power_cut.py
	HIS160_CHANCE=1 $(BIN)/python -m pytest tests/chaos/test_real_model.py
	HIS160_QUEUED=1000000 $(BIN)/python -m pytest --timeout 900 tests/unit/sync/test_event_heads.py

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
