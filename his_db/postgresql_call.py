"""Calling procedures and functions of PostgreSQL: the statement of a plan, and what its row means.

CALL p(a => x, o => NULL) answers one row of the OUT and INOUT values; SELECT * FROM f(a => x) answers OUT values or
a result set. Arguments go by name, so that the order of OUT parameters in the mapping does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from his_db.engine import Parameter, ParameterKind, ProcedurePlan, Rows
from his_db.held_connection import CallError

_PART: Final = re.compile(r'"(?:[^"]|"")+"|[^\W\d][\w$]*')
_TYPE: Final = re.compile(r"[^\W\d][\w ]*(?:\.[^\W\d]\w*)?(?P<modifier>\s*\([\d\s,]*\))?[\w ]*(?:\[\])*")
_ORDINAL: Final = re.compile(r"\$?\d+")
_IN: Final = frozenset({ParameterKind.IN, ParameterKind.INOUT})
_UNBOUNDED: Final = {"char": "bpchar", "character": "bpchar"}  # without a length both mean one character


@dataclass(frozen=True, slots=True)
class Call:
    """A plan made ready. ``arguments``: (bind, parameter name); ``cursors``: a parameter is a refcursor;
    ``scalar``: the only column is the RETURN value."""

    plan: ProcedurePlan
    sql: str
    arguments: tuple[tuple[str, str], ...]
    cursors: bool
    scalar: bool


def call_for(plan: ProcedurePlan) -> Call:
    """Build the statement; values are always binds. Raises CallError for what PostgreSQL cannot call."""
    returns = [p for p in plan.parameters if p.kind is ParameterKind.RETURN]
    outs = [p for p in plan.parameters if p.kind in (ParameterKind.OUT, ParameterKind.INOUT)]
    if returns and not plan.function:
        raise CallError(f"{plan.object}: procedures of PostgreSQL return no value; use OUT, or call = function")
    if len(returns) > 1 or (returns and outs):
        raise CallError(f"{plan.object}: a function has one RETURN value or OUT parameters, not both")
    by_order = any(_ORDINAL.fullmatch(p.name) for p in plan.parameters)
    arguments: list[tuple[str, str]] = []
    parts: list[str] = []
    for number, parameter in enumerate(plan.parameters):
        if parameter.kind is ParameterKind.RETURN or (plan.function and parameter.kind is ParameterKind.OUT):
            continue
        value = "NULL"
        if parameter.kind in _IN:
            value = f"%(p{number})s"
            arguments.append((f"p{number}", parameter.name))
        value = _typed(value, parameter)
        parts.append(value if by_order else f"{_name(parameter.name)} => {value}")
    target = f"{_object(plan.object)}({', '.join(parts)})"
    return Call(
        plan=plan,
        sql=("SELECT * FROM " if plan.function else "CALL ") + target,  # noqa: S608 - checked names and binds only
        arguments=tuple(arguments),
        cursors=any(p.type.strip().lower() == "refcursor" for p in plan.parameters),
        scalar=bool(returns),
    )


def outputs(plan: ProcedurePlan, rows: Rows) -> dict[str, Any]:
    """OUT, INOUT and RETURN values by the mapping's spelling of their names; None when a function gave no row.

    Raises CallError when a parameter of the plan is not in the answer.
    """
    wanted = [p for p in plan.parameters if p.kind is not ParameterKind.IN]
    if not wanted:
        return {}
    first = rows.rows[0] if rows.rows else None
    if wanted[0].kind is ParameterKind.RETURN:
        return {wanted[0].name: first[0] if first else None}
    places = {column.lower(): place for place, column in enumerate(rows.columns)}
    by_order = any(_ORDINAL.fullmatch(p.name) for p in wanted)
    if by_order and len(wanted) > len(rows.columns):
        raise CallError(f"{plan.object}: answers {len(rows.columns)} values, the mapping expects {len(wanted)}")
    out: dict[str, Any] = {}
    for order, parameter in enumerate(wanted):
        place = order if by_order else places.get(parameter.name.strip('"').lower())
        if place is None:
            raise CallError(f"{plan.object}: has no OUT parameter {parameter.name}")
        out[parameter.name] = first[place] if first else None
    return out


def cursors_in(rows: Rows, is_cursor: Sequence[bool]) -> list[str]:
    """Names of the open cursors that an answer holds, in order."""
    return [
        str(value)
        for row in rows.rows
        for value, cursor in zip(row, is_cursor, strict=True)
        if cursor and value is not None
    ]


def _typed(value: str, parameter: Parameter) -> str:
    """The value cast to the parameter's type, without its length: an explicit cast to varchar(8) would cut silently."""
    declared = parameter.type.strip()
    if not declared:
        return value
    match = _TYPE.fullmatch(declared)
    if match is None:
        raise CallError(f"parameter {parameter.name}: not a type name of PostgreSQL")
    modifier = match["modifier"] or ""
    plain = declared.replace(modifier, "", 1).strip() if modifier else declared
    return f"CAST({value} AS {_UNBOUNDED.get(plain.lower(), plain)})"


def _object(name: str) -> str:
    parts = re.findall(r'"(?:[^"]|"")+"|[^.]+', name.strip())
    if not parts or ".".join(parts) != name.strip():
        raise CallError("the object of the call is not a name")
    return ".".join(_name(part) for part in parts)


def _name(name: str) -> str:
    """A quoted identifier, folded to lower case as PostgreSQL does; a name already quoted stays as it is."""
    if not _PART.fullmatch(name):
        raise CallError("a name of the call is not an identifier of PostgreSQL")
    return name if name.startswith('"') else f'"{name.lower()}"'
