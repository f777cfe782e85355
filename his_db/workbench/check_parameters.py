"""The parameters of a mapped procedure against those that the database has."""

from __future__ import annotations

from collections.abc import Sequence

from his_db.catalogue.model import Routine, RoutineParameter, family_of
from his_db.document.finding import Words
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.model import OperationMapping, Param
from his_db.mapping.paths import resolve, sort_of
from his_db.workbench.usage import Use

_FITS = {  # direction in the mapping -> directions in the database that it may meet
    "in": {"in", "inout"},
    "out": {"out", "inout", "column", "return"},
    "inout": {"inout"},
    "return": {"return", "out"},
}
_PLACED = "$"  # a mapping may name parameters by their place: $1, $2


def check_parameters(use: Use, routines: Sequence[Routine], report: Reporter) -> None:
    """The overload that fits best is meant; what still differs is reported."""
    params = use.mapping.params
    if any(param.name.lstrip(_PLACED).isdigit() for param in params):
        _check_count(use, routines, report)
        return
    scored = [(_differences(params, routine), routine) for routine in routines]
    _, routine = min(scored, key=lambda item: len(item[0]))
    known = {_folded(parameter.name): parameter for parameter in routine.parameters if parameter.name}
    for at, param in enumerate(params):
        theirs = known.get(_folded(param.name))
        if theirs is None:
            if param.direction != "return":
                names = [parameter.name for parameter in routine.parameters if parameter.name]
                message = Words(f"{use.routine} has no parameter {param.name}", f"{use.routine} 没有参数 {param.name}")
                report.value("H506", (*use.place, "params", at, "name"), message, did_you_mean(param.name, names))
        elif theirs.direction not in _FITS[param.direction]:
            shown = theirs.direction.upper()
            message = Words(f"{param.name} is {shown} in the database", f"{param.name} 在数据库中是 {shown} 参数")
            fix = Words(f'dir = "{theirs.direction}"', f'改为 dir = "{theirs.direction}"')
            report.value("H506", (*use.place, "params", at), message, fix)
        else:
            _check_type(use, param, theirs, at, report)
    given = {_folded(param.name) for param in params}
    for parameter in routine.parameters:
        if parameter.name and _is_wanted(parameter) and _folded(parameter.name) not in given:
            message = Words(
                f"{use.routine} wants {parameter.name} {parameter.type} ({parameter.direction})",
                f"{use.routine} 需要参数 {parameter.name} {parameter.type}（{parameter.direction}）",
            )
            report.key("H507", (*use.place, "params"), message, Words("add it to params", "请补到 params 中"))


def _differences(params: Sequence[Param], routine: Routine) -> set[str]:
    own = {_folded(param.name) for param in params if param.direction != "return"}
    theirs = {_folded(parameter.name) for parameter in routine.parameters if parameter.name}
    return own ^ theirs


def _check_count(use: Use, routines: Sequence[Routine], report: Reporter) -> None:
    count = len([param for param in use.mapping.params if param.direction != "return"])
    theirs = [len([p for p in routine.parameters if p.direction != "return"]) for routine in routines]
    if count not in theirs:
        shown = ", ".join(str(number) for number in sorted(set(theirs)))
        message = Words(f"{count} parameters, the procedure has {shown}", f"参数 {count} 个，存储过程有 {shown} 个")
        report.key("H506", (*use.place, "params"), message)


def _is_wanted(parameter: RoutineParameter) -> bool:
    return parameter.direction in {"in", "inout"} and not parameter.has_default


def _check_type(use: Use, param: Param, theirs: RoutineParameter, at: int, report: Reporter) -> None:
    """Only what is certainly wrong: a native date into a number, a number into a date."""
    mapping = use.mapping
    if not isinstance(mapping, OperationMapping) or param.direction not in {"in", "inout"} or not param.source:
        return
    path = resolve(mapping.operation.request, param.source)
    if path is None or param.transform.moment or param.transform.codes:
        return
    sort, family = sort_of(path[-1]), family_of(theirs.type, engine=mapping.engine)
    is_moment = sort in {"date", "time", "timestamp"}
    wrong = (is_moment and family in {"number", "bool", "binary"}) or (
        sort in {"int", "money", "bool"} and family in {"date", "datetime", "time", "binary"}
    )
    if wrong or (is_moment and family == "text"):
        message = Words(
            f"{param.name} is {theirs.type}, {param.source} gives a {sort}",
            f"{param.name} 的类型是 {theirs.type}，而 {param.source} 是 {sort}",
        )
        fix = (
            Words('say how: date = "%Y%m%d" or the like', '请写明格式，例如 date = "%Y%m%d"')
            if is_moment
            else Words("", "")
        )
        report.warn("H504", (*use.place, "params", at), message, fix)


def _folded(name: str) -> str:
    return name.casefold().lstrip("@").strip('"')
