"""The only lists of implementations in this room: name -> "module:Class", loaded when chosen."""

from __future__ import annotations

from importlib import import_module
from typing import Any

STORES: dict[str, str] = {
    "sqlite": "sync.stores.sqlite:SqliteStore",
    "postgresql": "sync.stores.postgresql:PostgresqlStore",
}

CAPTURES: dict[str, str] = {
    "snapshot_diff": "sync.captures.snapshot_diff:SnapshotDiff",
    "fed": "sync.captures.fed:FedDiff",
}

# Formats of dropped files; their libraries come with his160[drop].
FILE_FORMATS: dict[str, str] = {
    "csv": "sync.file_formats.csv_file:FORMAT",
    "json": "sync.file_formats.json_file:FORMAT",
    "xml": "sync.file_formats.xml_file:FORMAT",
    "dbf": "sync.file_formats.dbf_file:FORMAT",
}

SINKS: dict[str, str] = {
    "file": "sync.sinks.file:FileSink",
    "nats": "sync.sinks.nats:NatsSink",
}

# Files that a report is written to.
REPORT_FORMATS: dict[str, str] = {
    "xlsx": "sync.report_formats.xlsx:XlsxFormat",
    "csv": "sync.report_formats.csv:CsvFormat",
}

# Commands over several systems. Of those of one operation the first that the site's mappings allow is run.
SAGAS: dict[str, str] = {
    "create_payment": "sync.sagas.create_payment:SAGA",
    "confirm_payment": "sync.sagas.confirm_payment:SAGA",
    "return_payment": "sync.sagas.return_payment:SAGA",
    "cancel_appointment": "sync.sagas.cancel_appointment:SAGA",
    "refund_payment": "sync.sagas.refund_payment:SAGA",
    "quote_insurance": "sync.sagas.quote_insurance:SAGA",
    "quote_insurance_by_centre": "sync.sagas.quote_insurance:BY_CENTRE",
    "undo_quote": "sync.sagas.quote_insurance:UNDO",
    "settle_insurance": "sync.sagas.settle_insurance:SAGA",
    "settle_insurance_by_centre": "sync.sagas.settle_insurance:BY_CENTRE",
    "reverse_insurance": "sync.sagas.reverse_insurance:SAGA",
    "reverse_insurance_by_centre": "sync.sagas.reverse_insurance:BY_CENTRE",
}

# Revisions of the state store's schema, oldest first: each is applied to a store of the one before it.
MIGRATIONS: dict[str, str] = {
    "0001": "sync.migrations.r0001_first:upgrade",
    "0002": "sync.migrations.r0002_command_steps:upgrade",
    "0003": "sync.migrations.r0003_settlements:upgrade",
    "0004": "sync.migrations.r0004_audit:upgrade",
    "0005": "sync.migrations.r0005_notices:upgrade",
    "0006": "sync.migrations.r0006_leases:upgrade",
    "0007": "sync.migrations.r0007_events_due:upgrade",
    "0008": "sync.migrations.r0008_payment_notices:upgrade",
    "0009": "sync.migrations.r0009_pay_tokens:upgrade",
    "0010": "sync.migrations.r0010_reports:upgrade",
    "0011": "sync.migrations.r0011_trades:upgrade",
    "0012": "sync.migrations.r0012_report_files:upgrade",
    "0013": "sync.migrations.r0013_audit_archive:upgrade",
    "0014": "sync.migrations.r0014_store_id:upgrade",
    "0015": "sync.migrations.r0015_events_acked:upgrade",
}


def load(entry: str) -> Any:
    """The class that a registry entry names. Raises ImportError or AttributeError when the entry is wrong."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)


def load_sagas() -> dict[str, Any]:
    """Every saga by its name. Raises ImportError or AttributeError when an entry is wrong."""
    return {name: load(entry) for name, entry in SAGAS.items()}
