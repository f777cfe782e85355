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
    "gateway": "his_db.kinds.gateway:GatewayKind",
    "unsupported": "his_db.kinds.unsupported:UnsupportedKind",
}

GATEWAYS: dict[str, str] = {
    "wechatpay": "his_db.gateways.wechatpay:WechatPayGateway",
    "insurance2": "his_db.gateways.insurance2:Insurance2Gateway",
    "mobile_payment": "his_db.gateways.mobile_payment:MobilePaymentGateway",
}

SIMULATORS: dict[str, str] = {
    "wechat": "his_db.simulators.wechat:WechatSimulatorMaker",
    "insurance": "his_db.simulators.insurance:InsuranceSimulatorMaker",
    "mobile": "his_db.simulators.mobile:MobileSimulatorMaker",
}

# Rungs of the capture ladder, engine:rung; the snapshot diff needs none of them.
FEEDS: dict[str, str] = {
    "sqlite:change_table": "his_db.feeds.sqlite:ChangeTable",
    "postgresql:change_table": "his_db.feeds.postgresql:ChangeTable",
    "postgresql:xmin": "his_db.feeds.postgresql:XminWindow",
    "postgresql:cursor": "his_db.feeds.postgresql:SealedCursor",
    "mysql:binlog": "his_db.feeds.mysql_binlog:Binlog",
    "mysql:change_table": "his_db.feeds.mysql:ChangeTable",
    "mysql:cursor": "his_db.feeds.mysql:BarrieredCursor",
    "mssql:change_tracking": "his_db.feeds.mssql:ChangeTracking",
    "mssql:cdc": "his_db.feeds.mssql:ChangeDataCapture",
    "mssql:change_table": "his_db.feeds.mssql:ChangeTable",
    "mssql:rowversion": "his_db.feeds.mssql:Rowversion",
    "mssql:cursor": "his_db.feeds.mssql:BarrieredCursor",
    "oracle:flashback": "his_db.feeds.oracle:FlashbackVersions",
    "oracle:change_table": "his_db.feeds.oracle:ChangeTable",
    "oracle:rowscn": "his_db.feeds.oracle:RowScn",
    "oracle:cursor": "his_db.feeds.oracle:BarrieredCursor",
}

# Wake-up signals, by engine; every other engine is polled.
WAKES: dict[str, str] = {
    "postgresql": "his_db.wakes.postgresql:Notifications",
    "sqlite": "his_db.wakes.sqlite:DataVersion",
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


def rungs_of(engine: str) -> dict[str, str]:
    """Entries of an engine's feeds, by rung."""
    parts = ((name.partition(":"), entry) for name, entry in FEEDS.items())
    return {rung: entry for (found, _, rung), entry in parts if found == engine}


def load_sample(name: str) -> SampleHis:
    """The sample HIS of that name, or that of the opt-in suite. Raises KeyError when there is none."""
    sample: SampleHis = load({**LIVE_SAMPLES, **SAMPLES}[name])()
    return sample


def load(entry: str) -> Any:
    """The class that a registry entry names. Raises ImportError or AttributeError when the entry is wrong."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)
