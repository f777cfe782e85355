"""A fresh MariaDB or MySQL database for a sample HIS (to be replaced by the fixture of `tests/conftest.py`).

``HIS160_TEST_MARIADB_URL``: a url of the server, of a user that may create databases; else root on 127.0.0.1:3306.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import OperationalError

_STANDARD = "mysql+pymysql://root@127.0.0.1:3306/"


@contextmanager
def mariadb_database() -> Iterator[str]:
    """The SQLAlchemy url of a database of our own; dropped afterwards. Skips when no server answers."""
    server = make_url(os.environ.get("HIS160_TEST_MARIADB_URL", _STANDARD)).set(drivername="mysql+pymysql")
    name = f"his160_test_{secrets.token_hex(6)}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
    try:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
    except OperationalError as error:
        pytest.skip(f"mariadb: {type(error.orig).__name__}")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS `{name}`")
        admin.dispose()
