"""A database of our own on a PostgreSQL server, for the sample HIS of the demo and the tests."""

from __future__ import annotations

import re

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import DBAPIError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class ServerRefused(Exception):
    """The server does not answer, or does not let us do it. Holds no password."""


def create_database(server: str, name: str) -> str:
    """Makes an empty UTF-8 database; returns its SQLAlchemy URL. `server` is a URL of any database of the server.

    Raises ServerRefused.
    """
    _run(server, f"CREATE DATABASE \"{_checked(name)}\" TEMPLATE template0 ENCODING 'UTF8'")
    url = make_url(server).set(drivername="postgresql+psycopg", database=name)
    return url.render_as_string(hide_password=False)


def drop_database(server: str, name: str) -> None:
    """Drops it with whoever is still connected. Raises ServerRefused."""
    _run(server, f'DROP DATABASE IF EXISTS "{_checked(name)}" WITH (FORCE)')


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("not a plain database name")
    return name


def _run(server: str, statement: str) -> None:
    url = make_url(server).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        raise ServerRefused(f"the server refused: {type(error.orig).__name__}") from None
    finally:
        engine.dispose()
