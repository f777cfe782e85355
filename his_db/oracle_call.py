"""Calling procedures, functions and packages of Oracle: one PL/SQL block per plan, arguments by name.

BEGIN :p2 := "HIS"."PKG_YY"."F_LOCK"("A_ID" => :p0, "O_MSG" => :p1); END;
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from his_db.engine import Parameter, ParameterKind, ProcedurePlan
from his_db.held_connection import CallError

_PART: Final = re.compile(r'"[^"]+"|[^\W\d][\w$#]*')
_TYPE: Final = re.compile(r"(?P<name>[^\W\d][\w ]*?)\s*(?:\(\s*(?P<size>\d+)[^)]*\)[\w ]*)?")
_ORDINAL: Final = re.compile(r"\d+")
_TEXT_SIZE: Final = 4000  # bytes of an OUT text whose type gives no length
_TYPES: Final[Mapping[str, str]] = {
    "": "varchar",
    "varchar2": "varchar",
    "varchar": "varchar",
    "string": "varchar",
    "char": "char",
    "character": "char",
    "nvarchar2": "nvarchar",
    "nvarchar": "nvarchar",
    "nchar": "nchar",
    "number": "number",
    "numeric": "number",
    "decimal": "number",
    "integer": "integer",
    "int": "integer",
    "smallint": "integer",
    "pls_integer": "integer",
    "binary_integer": "integer",
    "float": "number",
    "date": "date",
    "timestamp": "timestamp",
    "clob": "clob",
    "nclob": "nclob",
    "blob": "blob",
    "raw": "raw",
    "boolean": "boolean",
    "ref cursor": "cursor",
    "refcursor": "cursor",
    "sys_refcursor": "cursor",
    "cursor": "cursor",
}
_SIZED: Final = frozenset({"varchar", "nvarchar", "char", "nchar", "raw"})


@dataclass(frozen=True, slots=True)
class Bind:
    """One bind of the block. ``type``: a value of the table above; ``size`` in characters or bytes, 0 where it needs
    none. ``given``: the caller gives a value; ``asked``: the block answers one."""

    key: str
    name: str
    type: str
    size: int
    given: bool
    asked: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A plan made ready. ``rows``: the statement is a SELECT from a table function."""

    sql: str
    binds: tuple[Bind, ...]
    rows: bool


def call_for(plan: ProcedurePlan) -> Call:
    """The block of a plan; values are always binds. Raises CallError for what Oracle cannot call."""
    returns = [p for p in plan.parameters if p.kind is ParameterKind.RETURN]
    if len(returns) > 1 or (returns and not plan.function):
        raise CallError(f"{plan.object}: a procedure of Oracle returns nothing, a function one value (call = function)")
    by_order = any(_ORDINAL.fullmatch(p.name) for p in plan.parameters if p.kind is not ParameterKind.RETURN)
    binds = tuple(_bind(f"p{number}", parameter) for number, parameter in enumerate(plan.parameters))
    parts = [
        f":{bind.key}" if by_order else f"{_name(parameter.name)} => :{bind.key}"
        for bind, parameter in zip(binds, plan.parameters, strict=True)
        if parameter.kind is not ParameterKind.RETURN
    ]
    target = _object(plan.object) + (f"({', '.join(parts)})" if parts else "")
    if plan.function and not returns:
        if any(bind.asked for bind in binds):
            raise CallError(f"{plan.object}: a table function has IN parameters only")
        return Call(f"SELECT * FROM TABLE({target})", binds, rows=True)  # noqa: S608 - checked names and binds only
    result = next((f":{b.key} := " for b, p in zip(binds, plan.parameters, strict=True) if p in returns), "")
    return Call(f"BEGIN {result}{target}; END;", binds, rows=False)


def _bind(key: str, parameter: Parameter) -> Bind:
    match = _TYPE.fullmatch(parameter.type.strip()) if parameter.type.strip() else None
    if parameter.type.strip() and match is None:
        raise CallError(f"parameter {parameter.name}: not a type name of Oracle")
    word = " ".join(match["name"].lower().split()) if match else ""
    kind = _TYPES.get(word) or _TYPES.get(word.partition(" ")[0], "")
    asked = parameter.kind is not ParameterKind.IN
    if not kind and asked:
        raise CallError(f"parameter {parameter.name}: no OUT parameter of this type can be fetched")
    size = (int(match["size"]) if match and match["size"] else _TEXT_SIZE) if kind in _SIZED else 0
    given = parameter.kind in (ParameterKind.IN, ParameterKind.INOUT)
    return Bind(key, parameter.name, kind or "varchar", size, given, asked)


def _object(name: str) -> str:
    """``his.pkg.p@link`` as it is written: identifiers fold to upper case by themselves, unless quoted."""
    parts = re.findall(r'"[^"]+"|[^.]+', name.strip())
    if not 1 <= len(parts) <= 3 or ".".join(parts) != name.strip():
        raise CallError("the object of the call is not a name")
    return ".".join(_name(part) for part in parts)


def _name(name: str) -> str:
    if not _PART.fullmatch(name):
        raise CallError("a name of the call is not an identifier of Oracle")
    return name
