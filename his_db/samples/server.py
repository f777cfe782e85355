"""A database of our own on a PostgreSQL or MySQL server, for the sample HIS of the demo, the rush and the tests."""

from __future__ import annotations

import re

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class ServerRefused(Exception):
    """The server does not answer, or does not let us do it. Holds no password."""


def create_database(server: str, name: str) -> str:
    """Makes an empty UTF-8 database; returns its SQLAlchemy URL. `server` is a URL of any database of the server.

    Raises ServerRefused.
    """
    if _is_mysql(server):
        _run(server, f"CREATE DATABASE `{_checked(name)}` CHARACTER SET utf8mb4")
    else:
        _run(server, f"CREATE DATABASE \"{_checked(name)}\" TEMPLATE template0 ENCODING 'UTF8'")
    url = make_url(server).set(drivername=_driver(server), database=name)
    return url.render_as_string(hide_password=False)


def drop_database(server: str, name: str) -> None:
    """Drops it, on PostgreSQL with whoever is still connected. Raises ServerRefused."""
    if _is_mysql(server):
        _run(server, f"DROP DATABASE IF EXISTS `{_checked(name)}`")
    else:
        _run(server, f'DROP DATABASE IF EXISTS "{_checked(name)}" WITH (FORCE)')


def look_at(url: str) -> None:
    """Connects once. Raises ServerRefused for a URL that is none, or that leads to no database."""
    try:
        engine = create_engine(url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise ServerRefused(f"no URL of a database: {type(error).__name__}") from None
    try:
        engine.connect().close()
    except SQLAlchemyError as error:
        raise ServerRefused(f"no answer: {type(getattr(error, 'orig', None) or error).__name__}") from None
    finally:
        engine.dispose()


def _is_mysql(server: str) -> bool:
    return make_url(server).get_backend_name() in {"mysql", "mariadb"}


def _driver(server: str) -> str:
    return "mysql+pymysql" if _is_mysql(server) else "postgresql+psycopg"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("not a plain database name")
    return name


def _run(server: str, statement: str) -> None:
    url = make_url(server).set(drivername=_driver(server))
    engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        raise ServerRefused(f"the server refused: {type(error.orig).__name__}") from None
    finally:
        engine.dispose()
