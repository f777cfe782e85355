"""Fixtures shared by all suites: real databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from his_db.engine import SourceSettings
from tests.servers import MariadbServer, PostgresqlServer, running_mariadb, running_postgresql


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
