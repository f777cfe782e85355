"""No driver is loaded that the site does not use."""

from __future__ import annotations

import subprocess
import sys


def test_only_the_chosen_engine_loads_its_driver() -> None:
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from his_db.source import Source, settings_from_url
Source(settings_from_url("his", "sqlite:///x.db"))
print(sorted({{"psycopg", "pymysql", "pyodbc", "mssql_python", "oracledb", "dmPython"}} & set(sys.modules)))
Source(settings_from_url("his", "mariadb://a:b@h/d"))
print(sorted({{"psycopg", "pymysql", "pyodbc", "mssql_python", "oracledb", "dmPython"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['pymysql']"]


def test_an_agent_loads_no_dialect_that_its_store_does_not_use() -> None:
    """SQLAlchemy's dialect of PostgreSQL takes 2 MB of an idle agent: engines write their statements themselves."""
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
import agent.daemon
from his_db.source import Source, settings_from_url
from sync.registry import STORES
import importlib
importlib.import_module(STORES["sqlite"].partition(":")[0])
for url in ("sqlite:///x.db", "postgresql://a:b@h/d", "mariadb://a:b@h/d"):
    Source(settings_from_url("his", url)).engine
print(sorted(name for name in sys.modules if name.startswith("sqlalchemy.dialects.") and name.count(".") == 2))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("[]", "['sqlalchemy.dialects._typing', 'sqlalchemy.dialects.sqlite']"), done.stdout
