"""The only lists of implementations in this room: name -> "module:Class", loaded when chosen."""

from __future__ import annotations

from importlib import import_module
from typing import Any

STORES: dict[str, str] = {
    "sqlite": "sync.stores.sqlite:SqliteStore",
}

CAPTURES: dict[str, str] = {
    "snapshot_diff": "sync.captures.snapshot_diff:SnapshotDiff",
}

SINKS: dict[str, str] = {
    "file": "sync.sinks.file:FileSink",
}


def load(entry: str) -> Any:
    """The class that a registry entry names. Raises ImportError or AttributeError when the entry is wrong."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)
