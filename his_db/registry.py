"""The only lists of implementations in this room: name -> "module:Class", loaded when chosen.

Nothing is imported until it is asked for, so that no driver is loaded that the site does not use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from his_db.sample import SampleHis

ENGINES: dict[str, str] = {
    "sqlite": "his_db.engines.sqlite:SqliteEngine",
    "postgresql": "his_db.engines.postgresql:PostgresqlEngine",
    "mysql": "his_db.engines.mysql:MysqlEngine",
    "http": "his_db.engines.http:HttpEngine",
    "mssql": "his_db.engines.mssql:MssqlEngine",
    "oracle": "his_db.engines.oracle:OracleEngine",
    "dm": "his_db.engines.dm:DmEngine",
}

KINDS: dict[str, str] = {
    "table": "his_db.kinds.table:TableKind",
    "query": "his_db.kinds.query:QueryKind",
    "steps": "his_db.kinds.steps:StepsKind",
    "procedure": "his_db.kinds.procedure:ProcedureKind",
    "http": "his_db.kinds.http:HttpKind",
    "unsupported": "his_db.kinds.unsupported:UnsupportedKind",
}

SAMPLES: dict[str, str] = {
    "zebone": "his_db.samples.zebone:ZeboneSample",
    "winning": "his_db.samples.winning:WinningSample",
    "neusoft": "his_db.samples.neusoft:NeusoftSample",
    "bsoft": "his_db.samples.bsoft:BsoftSample",
}

# Samples whose server cannot be had here: made and tested by the opt-in suite alone (docs/engines.md).
LIVE_SAMPLES: dict[str, str] = {
    "winning_mssql": "his_db.samples.winning_mssql:WinningMssqlSample",
    "neusoft_oracle": "his_db.samples.neusoft_oracle:NeusoftOracleSample",
}


def load_sample(name: str) -> SampleHis:
    """The sample HIS of that name, or that of the opt-in suite. Raises KeyError when there is none."""
    sample: SampleHis = load({**LIVE_SAMPLES, **SAMPLES}[name])()
    return sample


def load(entry: str) -> Any:
    """The class that a registry entry names. Raises ImportError or AttributeError when the entry is wrong."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)
