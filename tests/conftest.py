"""Fixtures shared by all suites: real databases. The table refusals × packs, also where workers have run the tests."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from his_db.engine import SourceSettings
from tests.binlog_server import BinlogServer, running_binlog_server
from tests.conformance.packs.reasons import print_reasons
from tests.servers import MariadbServer, PostgresqlServer, running_mariadb, running_postgresql

# Some machines forbid Python to keep what it has compiled; here every suite, worker and agent would compile it all anew.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    sys.dont_write_bytecode = False


def _memory() -> Path | None:
    """Where files lie in memory, if that is like any other place and there is plenty; a container usually has neither."""
    place = Path("/dev/shm")
    if not os.access(place, os.W_OK) or shutil.disk_usage(place).free < 4 * 2**30:
        return None
    return None if os.statvfs(place).f_flag & (os.ST_NOEXEC | os.ST_NOSUID | os.ST_NODEV) else place


# Thousands of commits that wait for a disk show nothing more than those that do not: no test pulls the plug.
if (memory := _memory()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))

# The same examples each time, so that a change is judged by what it changed; ``HIS160_CHANCE=1`` (`make soak`) looks for new
# ones. What such a search finds becomes an ``@example``.
hypothesis.settings.register_profile("fixed", derandomize=True)
if not os.environ.get("HIS160_CHANCE"):
    hypothesis.settings.load_profile("fixed")

# Longest first: whole processes, then sample hospitals and servers. A worker that meets them last is waited for.
_LONG = ("chaos", "systemd", "windows", "e2e", "gateways", "integration", "conformance", "architecture", "bench")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rooms with long files first, each file's tests together and in the order that chance gave them."""
    place = {name: number for number, name in enumerate(_LONG)}
    here = Path(__file__).parent
    items.sort(key=lambda item: place.get(item.path.relative_to(here).parts[0], len(_LONG)))


# Of a worker's hundred thousands of objects most are there from the collection to the end: looking through them again and
# again took a fifth of the processor's time. What tests leave behind is collected as ever, in larger portions.
_PORTION = 20_000


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(_PORTION)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    print_reasons(terminalreporter)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A real PostgreSQL (see ``tests/servers.py``); the test is skipped where none can be had."""
    with running_postgresql() as server:
        yield server


@pytest.fixture
def postgresql_database(postgresql_server: PostgresqlServer) -> Iterator[Callable[[], SourceSettings]]:
    """A factory of fresh databases, dropped after the test with every connection still in them."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(postgresql_server.database())


@pytest.fixture(scope="module")
def postgresql_module_database(postgresql_server: PostgresqlServer) -> Iterator[SourceSettings]:
    """One fresh database for a whole module, for suites that only read what they set up once."""
    with postgresql_server.database() as settings:
        yield settings


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariadbServer]:
    """A real MariaDB or MySQL (see ``tests/servers.py``); the test is skipped where none can be had."""
    with running_mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def binlog_server() -> Iterator[BinlogServer]:
    """A MariaDB of our own that writes a binary log (see ``tests/binlog_server.py``)."""
    with running_binlog_server() as server:
        yield server


@pytest.fixture
def mariadb_database(mariadb_server: MariadbServer) -> Iterator[Callable[[], SourceSettings]]:
    """A factory of fresh databases, dropped after the test with every connection still in them."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(mariadb_server.database())


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    """The path of an empty, existing SQLite database (the engine never creates one)."""
    path = tmp_path / "his.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1")  # writes the header
    return path
