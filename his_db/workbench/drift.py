"""`mappings.lock`: what the mappings used of the catalogue when somebody looked last; drift: what is different now.

The lock holds the used columns and the parameters only: a new column of the HIS is no drift. It is JSON with sorted
keys, so that version control shows what changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from his_db.catalogue.model import Catalogue, Name, family_of
from his_db.mapping.load import MappingSet
from his_db.move import move
from his_db.workbench.site import Site, catalogues

if TYPE_CHECKING:
    from his_db.workbench.usage import Use

LOCK: Final = "mappings.lock"
_VERSION: Final = 1
_GONE: Final = "missing"
_SCARS: Final = {"body"}  # changes that break nothing by themselves


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `what`: missing, column, parameter, kind, body. `breaks`: the operations concerned degrade."""

    source: str
    object: str
    what: str
    detail: str
    breaks: bool
    operations: tuple[str, ...]


class LockUnreadable(Exception):
    """mappings.lock is damaged, or of a newer version."""


def lock_of(site: Site, mapping_set: MappingSet, old: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The lock as it would be written now. Raises SourceFailed.

    `old` settles whose an unqualified column was that no table has any more.
    """
    from his_db.workbench.usage import uses_of  # takes sqlglot along, which an agent without a lock never needs

    uses = uses_of(mapping_set)
    found: dict[str, Any] = {}
    for source, catalogue in catalogues(site, {use.source for use in uses}).items():
        before = {} if old is None else old["sources"].get(source, {})
        found[source] = _objects(catalogue, [use for use in uses if use.source == source], before)
    return {"version": _VERSION, "revision": mapping_set.revision, "sources": found}


def write_lock(folder: Path, lock: Mapping[str, Any]) -> Path:
    """Write it into the mapping folder, whole or not at all."""
    path = folder / LOCK
    beside = path.with_suffix(".lock.new")
    beside.write_text(json.dumps(lock, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    move(beside, path)
    return path


def read_lock(folder: Path) -> dict[str, Any] | None:
    """The lock of the folder; None when there is none. Raises LockUnreadable."""
    try:
        text = (folder / LOCK).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LockUnreadable(type(error).__name__) from error
    try:
        found = json.loads(text)
    except ValueError as error:
        raise LockUnreadable("not JSON") from error
    if not isinstance(found, dict) or found.get("version") != _VERSION or not isinstance(found.get("sources"), dict):
        raise LockUnreadable("not a lock of this version")
    return found


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """What of the old lock is different now. Objects that are used only now are no drift."""
    found: list[Change] = []
    for source, objects in sorted(old["sources"].items()):
        live = new["sources"].get(source)
        if live is None:
            continue  # no mapping uses the source any more
        for name, was in sorted(objects.items()):
            now = live.get(name)
            if now is not None:
                found.extend(_changes(source, name, was, now))
    return tuple(found)


def _changes(source: str, name: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    users = tuple(sorted(set(was["used_by"]) & set(now["used_by"])))

    def change(what: str, detail: str) -> Change:
        return Change(source, name, what, detail, what not in _SCARS, users)

    if not users:
        return []
    if now["kind"] == _GONE and was["kind"] != _GONE:
        return [change("missing", f"{was['kind']} is gone / 已不存在")]
    if now["kind"] != was["kind"]:
        return [change("kind", f"{was['kind']} -> {now['kind']}")]
    found: list[Change] = []
    for column, told in sorted(was.get("columns", {}).items()):
        there = now.get("columns", {}).get(column)
        if there is not None and there["type"] != told["type"]:
            whose = tuple(sorted(set(told["used_by"]) & set(there["used_by"])))
            breaks = _sort(there["type"]) != _sort(told["type"])
            detail = f"{column}: {told['type']} -> {there['type']}"
            found.append(Change(source, name, "column", detail, breaks, whose))
    if was.get("parameters") != now.get("parameters"):
        before, after = "; ".join(was.get("parameters", ())), "; ".join(now.get("parameters", ()))
        found.append(change("parameter", f"({before}) -> ({after})"))
    elif was.get("body") and now.get("body") and was["body"] != now["body"]:
        found.append(change("body", "the text of the procedure changed / 过程内容有变化"))
    return found


def _sort(type_text: str) -> str:
    """A longer VARCHAR breaks nothing; a number that became a text does."""
    return _GONE if type_text == _GONE else family_of(type_text)


def _objects(catalogue: Catalogue, uses: list[Use], before: Mapping[str, Any]) -> dict[str, Any]:
    from his_db.workbench.usage import touched

    found: dict[str, Any] = {}
    for use in uses:
        seen = touched(use, catalogue)
        for key in seen.rights:
            _entry(found, catalogue, key)["used_by"].append(use.label)
        for key, columns in seen.columns.items():
            entry = _entry(found, catalogue, key)
            table = catalogue.tables[key]
            for name in columns:
                column = table.column(name)
                if column is not None:
                    _column(entry, name, column.type.lower(), use)
        for missing, _ in seen.missing:
            name = str(next(iter(catalogue.candidates(missing)), missing)).lower()
            found.setdefault(name, {"kind": _GONE, "used_by": []})["used_by"].append(use.label)
        for table_name, missing_column, _ in seen.missing_columns:
            for part in table_name.split(" / "):
                there = catalogue.table(part)
                if there is not None:
                    entry = _entry(found, catalogue, there.key)
                    _column(entry, missing_column.lower(), _GONE, use)
        _vanished(use, catalogue, found, before)
    for entry in found.values():
        entry["used_by"] = sorted(set(entry["used_by"]))
        for column in entry.get("columns", {}).values():
            column["used_by"] = sorted(set(column["used_by"]))
    return found


def _column(entry: dict[str, Any], name: str, type_text: str, use: Use) -> None:
    entry["columns"].setdefault(name, {"type": type_text, "used_by": []})["used_by"].append(use.label)


def _vanished(use: Use, catalogue: Catalogue, found: dict[str, Any], before: Mapping[str, Any]) -> None:
    """Columns without a qualifier that nobody has now and the old lock knew."""
    from his_db.workbench.usage import column_owner

    for statement in use.statements:
        for reference in statement.objects.columns:
            if column_owner(reference, catalogue)[0] is not None:
                continue
            for name in reference.tables:
                table = catalogue.table(name)
                if table is not None and reference.column.lower() in before.get(str(table.key), {}).get("columns", {}):
                    _column(_entry(found, catalogue, table.key), reference.column.lower(), _GONE, use)


def _entry(found: dict[str, Any], catalogue: Catalogue, key: Name) -> dict[str, Any]:
    name = str(key)
    if name in found:
        entry: dict[str, Any] = found[name]
        return entry
    table = catalogue.tables.get(key)
    if table is not None:
        found[name] = {"kind": table.kind, "columns": {}, "used_by": []}
    else:
        routines = catalogue.routines[key]
        texts = [
            ", ".join(f"{p.direction} {p.name} {p.type}".lower() for p in routine.parameters) for routine in routines
        ]
        body = hashlib.sha256("\0".join(sorted(routine.body for routine in routines)).encode()).hexdigest()[:16]
        has_body = any(routine.body for routine in routines)
        found[name] = {
            "kind": routines[0].kind,
            "parameters": sorted(texts),
            "body": body if has_body else "",
            "used_by": [],
        }
    made: dict[str, Any] = found[name]
    return made


def degraded(changes: tuple[Change, ...]) -> tuple[str, ...]:
    """Operations and watches that a breaking change concerns; the others run on."""
    return tuple(sorted({name for change in changes if change.breaks for name in change.operations}))
