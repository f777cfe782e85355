"""A listener that refuses, closes or stays silent: every engine says CONNECT, soon, and what is the matter."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from datetime import timedelta
from typing import Any

import pytest

from his_db.engine import Fault, SourceSettings
from his_db.held_connection import CallError
from his_db.source import engine_for
from tests.bounds import PATIENCE, in_time
from tests.unit.engines.listeners import listening

CASES = [
    ("mysql", {}),
    ("mssql", {"driver": "freetds"}),
    ("mssql", {"driver": "msodbcsql"}),
    ("mssql", {"driver": "mssql-python"}),
    ("oracle", {}),
    ("dm", {}),
]
MODULES = {"mssql-python": "mssql_python", "dm": "dmPython"}


def refused(engine: str, port: int, **options: str) -> tuple[Any, Exception, float]:
    settings = SourceSettings(
        name="his", engine=engine, database="HIS", host="127.0.0.1", port=port, user="jk160", password="geheim}; x",
        connect_timeout=timedelta(seconds=1), options=options,
    )  # fmt: skip
    module = MODULES.get(options.get("driver", engine))
    if module:
        pytest.importorskip(module)
    try:
        made = engine_for(settings)
    except CallError as error:
        pytest.skip(str(error))
    started = time.monotonic()
    with pytest.raises(made.driver_errors) as caught:
        made.open(read_only=True)
    made.dispose()
    assert isinstance(caught.value, Exception)
    return made, caught.value, time.monotonic() - started


@pytest.mark.parametrize("manner", ["close", "silent"])
@pytest.mark.parametrize(("engine", "options"), CASES)
def test_listener_in_trouble(engine: str, options: dict[str, str], manner: str) -> None:
    with warnings.catch_warnings():
        # python-oracledb leaves its socket to the collector when the handshake fails.
        warnings.simplefilter("ignore", ResourceWarning)
        with listening(manner) as port:
            made, error, seconds = refused(engine, port, **options)
        for thread in threading.enumerate():
            if thread.name == "his160-connect":
                thread.join(PATIENCE)  # the one that was given up ends when the listener does
        gc.collect()
    assert made.classify(error, sent=False) is Fault.CONNECT
    assert made.describe(error)
    assert "geheim" not in made.describe(error)
    assert in_time(seconds, 8)


@pytest.mark.parametrize(
    ("code", "expected"), [(12514, "DPY-6001"), (12505, "DPY-6003"), (12516, "DPY-6000"), (12520, "DPY-6000")]
)
def test_oracle_listener_refuses(code: int, expected: str) -> None:
    with listening(code) as port:
        made, error, _ = refused("oracle", port)
    assert made.classify(error, sent=False) is Fault.CONNECT
    told = made.describe(error)
    assert expected in told
    assert str(code) in told
    assert "CONNECTION_ID" not in told


def test_nobody_listens() -> None:
    with listening("close") as port:
        pass
    for engine, options in CASES:
        if options.get("driver") in ("msodbcsql", "mssql-python"):
            continue  # they try until the login time-out is over, as tested above
        made, error, _ = refused(engine, port, **options)
        assert made.classify(error, sent=False) is Fault.CONNECT
