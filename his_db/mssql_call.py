"""Calling procedures and functions of SQL Server: one batch that every driver can send.

No Python driver gives OUT and RETURN values portably, so the batch fetches them itself:

    DECLARE @his160_r int, @his160_1 nvarchar(200);
    EXEC @his160_r = [dbo].[usp_x] @hyid = ?, @msg = @his160_1 OUTPUT;
    SELECT @his160_r AS his160_r, @his160_1 AS his160_1;

The procedure's own result sets come before; the last SELECT is known by its column names, not by its place.
"""

from __future__ import annotations

import re
from typing import Final

from his_db.engine import Parameter, ParameterKind, ProcedurePlan
from his_db.held_connection import CallError
from his_db.odbc_session import Batch

_PART: Final = re.compile(r"[^\W\d][\w$#@]*|#{1,2}\w+|\[(?:[^\]]|\]\])+\]")
_TYPE: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)?(?:\s*\(\s*(?:\d+\s*(?:,\s*\d+\s*)?|max)\))?", re.IGNORECASE)
_ORDINAL: Final = re.compile(r"\d+")


def batch_for(plan: ProcedurePlan) -> Batch:
    """The batch of a plan; values are always binds. Raises CallError for what SQL Server cannot call."""
    return _function(plan) if plan.function else _procedure(plan)


def _function(plan: ProcedurePlan) -> Batch:
    """A scalar function with RETURN, a table function without."""
    given = [p for p in plan.parameters if p.kind is ParameterKind.IN]
    returns = [p for p in plan.parameters if p.kind is ParameterKind.RETURN]
    if len(given) + len(returns) != len(plan.parameters) or len(returns) > 1:
        raise CallError(f"{plan.object}: a function of SQL Server has IN parameters and at most one RETURN value")
    target = f"{_object(plan.object)}({', '.join('?' * len(given))})"
    sql = f"SELECT {target} AS his160_r" if returns else f"SELECT * FROM {target}"  # noqa: S608 - checked names
    return Batch(sql, tuple(p.name for p in given), scalar=returns[0].name if returns else "")


def _procedure(plan: ProcedurePlan) -> Batch:
    declared: list[str] = []
    parts: list[str] = []
    asked: list[tuple[str, str]] = []
    inouts: list[str] = []
    arguments: list[str] = []
    returns = ""
    by_order = any(_ORDINAL.fullmatch(p.name) for p in plan.parameters if p.kind is not ParameterKind.RETURN)
    for number, parameter in enumerate(plan.parameters):
        if parameter.kind is ParameterKind.RETURN:
            if returns:
                raise CallError(f"{plan.object}: a procedure has one RETURN value")
            returns = "@his160_r = "
            declared.append(f"@his160_r {_type(parameter, 'int')}")
            asked.append(("his160_r", parameter.name))
            continue
        name = "" if by_order else f"{_parameter(parameter.name)} = "
        if parameter.kind is ParameterKind.IN:
            parts.append(f"{name}?")
            arguments.append(parameter.name)
            continue
        variable = f"@his160_{number}"
        if parameter.kind is ParameterKind.INOUT:
            declared.append(f"{variable} {_type(parameter, '')} = ?")
            inouts.append(parameter.name)
        else:
            declared.append(f"{variable} {_type(parameter, '')}")
        parts.append(f"{name}{variable} OUTPUT")
        asked.append((variable[1:], parameter.name))
    lines = []
    if declared:
        lines.append(f"DECLARE {', '.join(declared)};")
    lines.append(f"EXEC {returns}{_object(plan.object)} {', '.join(parts)}".rstrip() + ";")
    if asked:
        lines.append("SELECT " + ", ".join(f"@{column} AS {column}" for column, _ in asked) + ";")
    return Batch("\n".join(lines), (*inouts, *arguments), out=tuple(asked))


def _type(parameter: Parameter, default: str) -> str:
    declared = parameter.type.strip() or default
    if not declared:
        raise CallError(f"parameter {parameter.name}: an OUT parameter of SQL Server needs its type")
    if not _TYPE.fullmatch(declared):
        raise CallError(f"parameter {parameter.name}: not a type name of SQL Server")
    return declared


def _parameter(name: str) -> str:
    bare = name.removeprefix("@")
    if not re.fullmatch(r"[\w$#@]+", bare):
        raise CallError("a name of the call is not a parameter of SQL Server")
    return f"@{bare}"


def _object(name: str) -> str:
    """``dbo.usp_x`` in brackets. ``his..usp_x`` leaves the schema to the server."""
    parts = re.findall(r"\[(?:[^\]]|\]\])+\]|[^.\[\]]+|(?<=\.)(?=\.)", name.strip())
    if not 1 <= len(parts) <= 4 or ".".join(parts) != name.strip():
        raise CallError("the object of the call is not a name")
    if not all(part == "" or _PART.fullmatch(part) for part in parts) or not parts[-1]:
        raise CallError("a name of the call is not an identifier of SQL Server")
    return ".".join(part if not part or part.startswith("[") else f"[{part}]" for part in parts)
