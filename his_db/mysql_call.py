"""Calling procedures and functions of MySQL and MariaDB: the statements of a plan, and what its answer means.

Arguments go by position, OUT values through user variables: ``SET @his160_1 = 5``, ``CALL p('x', @his160_1)``, the
procedure's result sets, then ``SELECT @his160_1``. A user variable keeps no date type, so a declared one is cast back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from his_db.engine import Parameter, ParameterKind, ProcedurePlan
from his_db.held_connection import CallError

_PART: Final = re.compile(r"[^\W\d][\w$]*|`[^`]+`")
_TYPE: Final = re.compile(r"\s*(?P<name>[^\W\d]\w*)\s*(?:\(\s*(?P<size>\d+)[\s,\d]*\))?[\w ]*")
_CASTS: Final = {"date": "DATE", "datetime": "DATETIME(6)", "timestamp": "DATETIME(6)", "time": "TIME(6)"}
_DECIMALS: Final = frozenset({"decimal", "numeric", "dec"})
_GIVEN: Final = frozenset({ParameterKind.IN, ParameterKind.INOUT})


@dataclass(frozen=True, slots=True)
class Call:
    """A plan made ready. ``arguments``: (bind, parameter name); ``before`` gives the INOUT values, ``after`` asks for
    ``outs``, the names of OUT and INOUT; ``returns``: the name of a function's value, its only column."""

    sql: str
    arguments: tuple[tuple[str, str], ...]
    before: str
    after: str
    outs: tuple[str, ...]
    returns: str


def call_for(plan: ProcedurePlan) -> Call:
    """Build the statements; values are always binds. Raises CallError for what MySQL cannot call."""
    returns = [p for p in plan.parameters if p.kind is ParameterKind.RETURN]
    outs = [(n, p) for n, p in enumerate(plan.parameters) if p.kind in (ParameterKind.OUT, ParameterKind.INOUT)]
    if returns and not plan.function:
        raise CallError(f"{plan.object}: procedures of MySQL return no value; use OUT, or call = function")
    if plan.function and (outs or len(returns) > 1):
        raise CallError(f"{plan.object}: a function of MySQL has one RETURN value and no OUT parameters")
    arguments: list[tuple[str, str]] = []
    parts: list[str] = []
    before: list[str] = []
    for number, parameter in enumerate(plan.parameters):
        if parameter.kind is ParameterKind.RETURN:
            continue
        if parameter.kind in _GIVEN:
            arguments.append((f"p{number}", parameter.name))
        if parameter.kind is ParameterKind.IN:
            parts.append(f"%(p{number})s")
        else:
            parts.append(f"@his160_{number}")
        if parameter.kind is ParameterKind.INOUT:
            before.append(f"@his160_{number} = %(p{number})s")
    target = f"{object_name(plan.object)}({', '.join(parts)})"
    return Call(
        sql=("SELECT " if plan.function else "CALL ") + target,
        arguments=tuple(arguments),
        before="SET " + ", ".join(before) if before else "",
        after="SELECT " + ", ".join(_read_back(n, p) for n, p in outs) if outs else "",
        outs=tuple(p.name for _, p in outs),
        returns=returns[0].name if returns else "",
    )


def _read_back(number: int, parameter: Parameter) -> str:
    variable = f"@his160_{number}"
    match = _TYPE.fullmatch(parameter.type)
    if parameter.type.strip() and match is None:
        raise CallError(f"parameter {parameter.name}: not a type name of MySQL")
    cast = _CASTS.get(match["name"].lower()) if match is not None else None
    if match is not None and match["name"].lower() in _DECIMALS and match["size"]:
        cast = "DECIMAL" + parameter.type[parameter.type.index("(") : parameter.type.index(")") + 1]
    return f"CAST({variable} AS {cast})" if cast else variable


def object_name(name: str) -> str:
    """``his.usp_x`` quoted with backticks. Raises CallError for what is no name."""
    parts = re.findall(r"`[^`]+`|[^.]+", name.strip())
    if not 1 <= len(parts) <= 2 or ".".join(parts) != name.strip():
        raise CallError("the object of the call is not a name")
    if not all(_PART.fullmatch(part) for part in parts):
        raise CallError("a name of the call is not an identifier of MySQL")
    return ".".join(part if part.startswith("`") else f"`{part}`" for part in parts)
