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
