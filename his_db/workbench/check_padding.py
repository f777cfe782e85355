"""CHAR columns compared with texts that are not filled up: in Oracle they are never equal, and nothing says so."""

from __future__ import annotations

from typing import Any

from his_db.catalogue.model import Catalogue, padded_length
from his_db.document.finding import Words
from his_db.mapping.binding import entries_for
from his_db.mapping.finding import Reporter
from his_db.mapping.model import OperationMapping, Param
from his_db.mapping.paths import resolve, sort_of
from his_db.mapping.read import param_of
from his_db.workbench.usage import StatementUse, Use, column_owner


def check_padding(use: Use, statement: StatementUse, catalogue: Catalogue, report: Reporter) -> None:
    """A warning for each bind that meets a CHAR column as it stands, and has no `pad`."""
    for reference, bind in statement.objects.compared:
        table, _ = column_owner(reference, catalogue)
        column = None if table is None else table.column(reference.column)
        length = 0 if column is None else padded_length(column.type, catalogue.engine)
        param = _param(use, bind)
        if not length or column is None or table is None or not _is_short_text(use, param, length):
            continue
        where = f"{table.name}.{column.name} {column.type}"
        message = Words(
            f"{where} is compared with :{bind}, which is not padded: they are never equal",
            f"{where} 是定长列，与未补空格的 :{bind} 比较永远不相等",
        )
        fix = Words(
            f"pad = {length} in its entry (RTRIM of the column loses the index)", f"在该参数上写 pad = {length}"
        )
        report.warn("H512", param.path or statement.path, message, fix)


def _param(use: Use, bind: str) -> Param:
    """The entry of `params` or of `where`, or what stands for it."""
    filters: list[Any] = use.mapping.values.get("where", []) if isinstance(use.mapping, OperationMapping) else []
    for at, item in enumerate(filters):
        if bind == f"w{at}":
            return param_of(item, ("where", at), bind)
    return entries_for([bind], use.mapping.params, in_watch=not isinstance(use.mapping, OperationMapping))[0]


def _is_short_text(use: Use, param: Param, length: int) -> bool:
    """Whether it gives a text that may be shorter than the column and is not filled up."""
    if param.transform.pad or param.step:
        return False
    if not param.source:
        return isinstance(param.const, str) and len(param.const) < length
    request = use.mapping.operation.request if isinstance(use.mapping, OperationMapping) else None
    path = None if request is None else resolve(request, param.source)
    is_text = path is not None and sort_of(path[-1]) in {"text", "enum"} and not param.transform.number
    return is_text or bool(param.transform.moment)
