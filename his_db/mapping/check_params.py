"""Checking where values come from: request fields, values of the call, constants, steps, and their conversions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from his_db.document.finding import Words, nearest
from his_db.document.located import Document, Path
from his_db.mapping.binding import CALL_VALUES, KEY, PAGE_VALUES, WINDOW_VALUES, implicit
from his_db.mapping.check_codes import check_all_back, check_backwards, check_values
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.formats import format_fault, has_date, has_time
from his_db.mapping.model import CodeMap, OperationMapping, Param
from his_db.mapping.paths import field_names, resolve, sort_of
from his_db.secret_reference import FORMS, is_reference, names_a_secret, seems_reference

_FORMATS: Final = ("date", "time", "datetime")
_CALL_SORTS: Final[Mapping[str, str]] = {
    "$now": "timestamp",
    "$today": "date",
    "$lock_until": "timestamp",
    "$lock_before": "timestamp",
    "$page_after": "page",
    "$page_limit": "page",
    "$from_date": "date",
    "$to_date": "date",
}
_CONVERSIONS: Final = (
    *_FORMATS,
    *("money", "codes", "case", "pad", "max_bytes", "max_chars", "cut", "charset", "number", "digits"),
    *("split", "part", "read", "empty"),
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What values there are: the request (None in watches), which $values, whether there are steps."""

    request: Descriptor | None
    values: frozenset[str]
    has_key: bool
    has_steps: bool
    codes: Mapping[str, CodeMap]


def operation_scope(mapping: OperationMapping) -> Scope:
    """The scope of an operation."""
    operation = mapping.operation
    values = set(CALL_VALUES) - set(WINDOW_VALUES)
    if not operation.page_size:
        values -= set(PAGE_VALUES)
    return Scope(
        operation.request,
        frozenset(values),
        has_key=not operation.is_read,
        has_steps=mapping.kind == "steps",
        codes=mapping.site.codes,
    )


def watch_scope(codes: Mapping[str, CodeMap], *, has_window: bool) -> Scope:
    """The scope of a watch."""
    values = {"$now", "$today", *(WINDOW_VALUES if has_window else ())}
    return Scope(None, frozenset(values), has_key=False, has_steps=False, codes=codes)


def check_params(params: Iterable[Param], mapping: OperationMapping, report: Reporter) -> None:
    """Every entry of `params` of an operation."""
    check_scoped(params, operation_scope(mapping), report)


def check_scoped(params: Iterable[Param], scope: Scope, report: Reporter) -> None:
    """Every entry of `params`, in a scope."""
    seen: set[str] = set()
    for param in params:
        if param.name.casefold() in seen:
            message = Words(f'"{param.name}" has two entries', f"“{param.name}” 写了两次")
            report.value("H219", (*param.path, "name"), message, Words("delete one", "删除其中一个"))
        seen.add(param.name.casefold())
        _check(param, scope, report)


def check_param(param: Param, mapping: OperationMapping, report: Reporter, *, named: bool = True) -> None:
    """One entry of an operation. `named` false: it has no name of its own, so a source must be given (filters)."""
    table = table_at(report.document, param.path)
    if not named and not {"from", "const"} & table.keys():
        message = Words("from or const is needed", "必须写 from 或 const")
        report.key("H219", param.path, message)
        return
    _check(param, operation_scope(mapping), report)


def table_at(document: Document, path: Path) -> Mapping[str, Any]:
    """The table that the file has at `path`; empty when there is none."""
    value: Any = document.data
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return {}
    return value if isinstance(value, dict) else {}


def check_implicit(name: str, path: Path, mapping: OperationMapping, report: Reporter) -> None:
    """A bind without an entry: a page value, or the request field of its name."""
    scope = operation_scope(mapping)
    source = implicit(name)
    if source.startswith("$"):
        if source not in scope.values:
            report.value("H222", path, _no_such(source, scope))
        return
    assert scope.request is not None
    found = resolve(scope.request, source)
    if found is None:
        message = Words(
            f":{name} has no entry in params, and the request has no field {name}",
            f":{name} 在 params 中没有定义，请求里也没有字段 {name}",
        )
        report.value("H221", path, message, did_you_mean(name, [*field_names(scope.request), *_entry_names(mapping)]))
    elif sort_of(found[-1]) == "money":
        _needs_money(name, path, report)
    elif sort_of(found[-1]) in {"message", "list", "map", ""}:
        report.value("H211", path, Words(f"{name} is not a single value", f"{name} 不是单个值"))


def _entry_names(mapping: OperationMapping) -> tuple[str, ...]:
    return tuple(param.name for param in mapping.params)


def _check(param: Param, scope: Scope, report: Reporter) -> None:
    table = table_at(report.document, param.path)
    given = [key for key in ("from", "const", "step") if key in table]
    if report.document.damage.hides((*param.path, "dir")):
        return  # whether it takes a value is not known
    if param.direction in {"out", "return"}:
        if given:
            message = Words("an OUT or RETURN parameter takes no value", "OUT 或 RETURN 参数不接收值")
            report.value("H219", (*param.path, given[0]), message)
        return
    if len(given) > 1:
        message = Words(f"{' and '.join(given)} exclude each other", f"{'、'.join(given)} 只能写一个")
        report.key("H219", (*param.path, given[1]), message)
        return
    place: Path = (*param.path, given[0]) if given else (*param.path, "name")
    if param.step:
        if not scope.has_steps:
            report.value("H223", place, Words("there are no steps here", "这里没有步骤"))
        _check_conversions(param, "any", None, table, scope, report)
    elif not param.source:
        for key in (name for name in _CONVERSIONS if name in table):
            message = Words(f"{key} has no meaning for a constant", f"固定值不需要 {key}")
            report.key(
                "H211",
                (*param.path, key),
                message,
                Words("write the constant as the HIS wants it", "直接写成 HIS 需要的值"),
            )
        _check_secret(param, (*param.path, "const"), table.get("const"), report)
    elif param.source.startswith("$"):
        _check_call_value(param, place, table, scope, report)
    else:
        _check_request_field(param, place, table, scope, report)


def _no_such(source: str, scope: Scope) -> Words:
    known = ", ".join(sorted(scope.values | ({"$key"} if scope.has_key else set())))
    return Words(f"there is no {source} here; there are {known}", f"这里没有 {source}；可用的有 {known}")


def _check_call_value(param: Param, place: Path, table: Mapping[str, Any], scope: Scope, report: Reporter) -> None:
    source = param.source
    if KEY.fullmatch(source):
        if scope.has_key:
            _check_conversions(param, "text", None, table, scope, report)
            return
        report.value("H222", place, Words(f"{source} exists only in writing operations", f"{source} 只能用于写操作"))
    elif source in scope.values:
        _check_conversions(param, _CALL_SORTS[source], None, table, scope, report)
    else:
        report.value("H222", place, _no_such(source, scope), did_you_mean(source, scope.values))


def _check_request_field(param: Param, place: Path, table: Mapping[str, Any], scope: Scope, report: Reporter) -> None:
    names = field_names(scope.request) if scope.request is not None else ()
    found = resolve(scope.request, param.source) if scope.request is not None else None
    if found is None:
        message = Words(f"the request has no field {param.source}", f"请求中没有字段 {param.source}")
        if scope.request is None:
            message = Words("a watch has no request; only $ values", "监视没有请求，只能用 $ 值")
        report.value("H207", place, message, did_you_mean(param.source, names or scope.values))
        return
    sort = sort_of(found[-1])
    if sort in {"message", "list", "map", ""}:
        message = Words(f"{param.source} is not a single value", f"{param.source} 不是单个值")
        below = [name for name in names if name.startswith(f"{param.source}.")]
        report.value("H211", place, message, did_you_mean(param.source, below))
        return
    _check_conversions(param, sort, found[-1], table, scope, report)


def _check_conversions(
    param: Param,
    sort: str,
    field: FieldDescriptor | None,
    table: Mapping[str, Any],
    scope: Scope,
    report: Reporter,
) -> None:
    sort = _check_text_parts(param, sort, table, report)
    formats = [key for key in _FORMATS if key in table]
    for key in formats:
        check_format(table[key], (*param.path, key), sort if sort in {"date", "time"} else "", report)
    if formats and sort not in {"date", "time", "timestamp", "any"}:
        _misfit(formats[0], param.path, report)
    if len(formats) > 1:
        message = Words("one format only", "只能写一个格式")
        report.key("H211", (*param.path, formats[1]), message)
    if sort == "money" and "money" not in table:  # a bad unit has been reported
        _needs_money(param.source, param.path, report)
    if "money" in table and sort != "money":
        message = Words("money fits only amounts (…_fen)", "money 只能用于金额字段（…_fen）")
        report.key("H212", (*param.path, "money"), message)
    if param.transform.codes:
        if sort not in {"text", "enum", "bool", "int", "any"}:
            _misfit("codes", param.path, report)
        _check_codes(param, field, scope, report)
    is_text = sort in {"text", "enum", "any"} or bool(formats) or bool(param.transform.codes)
    for key in ("case", "pad", "max_bytes", "max_chars", "cut", "charset"):
        if key in table and not is_text:
            _misfit(key, param.path, report)
    if "cut" in table and not {"max_bytes", "max_chars"} & table.keys():
        message = Words("cut belongs to max_bytes or max_chars", "cut 要与 max_bytes 或 max_chars 一起写")
        report.key("H211", (*param.path, "cut"), message)


def _check_text_parts(param: Param, sort: str, table: Mapping[str, Any], report: Reporter) -> str:
    """`part`, `read`, `number` and `digits`, which fit text only. The sort of value that comes out of them."""
    for key in ("split", "part", "read", "number", "digits"):
        if key in table and sort not in {"text", "any"}:
            _misfit(key, param.path, report)
            return sort
    if "split" in table and "part" not in table:
        message = Words("split belongs to part", "split 要与 part 一起写")
        report.key("H211", (*param.path, "split"), message, Words("part = 0", "part = 0"))
    formats = [key for key in _FORMATS if key in table]
    if "read" in table:
        check_format(table["read"], (*param.path, "read"), "", report)
        if not formats:
            message = Words(
                "read needs the format to write: date, time or datetime", "写了 read 就要写 date、time 或 datetime"
            )
            report.key("H211", (*param.path, "read"), message)
    if ("number" in table or "digits" in table) and formats:
        _misfit("number" if "number" in table else "digits", param.path, report)
    # The part of a slot_id is read as HHMM where it is written as a time.
    return "any" if "read" in table or ("part" in table and formats) else sort


def _check_codes(param: Param, field: FieldDescriptor | None, scope: Scope, report: Reporter) -> None:
    name = param.transform.codes
    codes = scope.codes.get(name)
    if codes is None:
        no_such_codes(name, (*param.path, "codes"), scope.codes, report)
        codes = scope.codes.get(nearest(name, scope.codes))  # the one that was probably meant
    if codes is None:
        return
    check_backwards(codes, report)
    if field is not None and field.enum_type is not None:
        check_values(codes, field, report)
        check_all_back(codes, field, report)


def no_such_codes(name: str, path: Path, codes: Mapping[str, CodeMap], report: Reporter) -> None:
    """Report a code map that does not exist."""
    message = Words(f'there is no code map "{name}"', f"没有代码对照表 “{name}”")
    report.value("H215", path, message, did_you_mean(name, codes))


def check_format(text: object, path: Path, sort: str, report: Reporter) -> None:
    """A strftime format; for a date it must hold one, for a time an hour. What is no text has been reported."""
    if not isinstance(text, str):
        return
    fault = format_fault(text)
    if fault:
        message = Words(f"{fault} is not known in a format", f"格式中不能使用 {fault}")
        fix = Words(
            "%Y %m %d %H %M %S %f %y, for example %Y-%m-%d %H:%M:%S",
            "可用 %Y %m %d %H %M %S %f %y，如 %Y-%m-%d %H:%M:%S",
        )
        report.value("H227", path, message, fix)
    elif sort == "date" and not has_date(text):
        report.value("H227", path, Words("the format holds no whole date", "格式中没有完整的日期"))
    elif sort == "time" and not has_time(text):
        report.value("H227", path, Words("the format holds no hour", "格式中没有小时"))


def _check_secret(param: Param, path: Path, const: object, report: Reporter) -> None:
    """A password or key is named, not written: mappings are copied, compared, sent by mail."""
    if not isinstance(const, str) or not const or is_reference(const):
        return
    if seems_reference(const):
        report.value("H400", path, Words("not a reference to a secret", "不是有效的密钥引用"), FORMS)
    elif names_a_secret(param.name):
        message = Words("a secret must not be written into a mapping", "密码、密钥不能直接写在映射文件里")
        report.value("H400", path, message, FORMS)


def _needs_money(name: str, path: Path, report: Reporter) -> None:
    message = Words(
        f"{name} is an amount in fen: say in which unit the HIS wants it",
        f"{name} 是以分为单位的金额，必须写明 HIS 要的单位",
    )
    fix = Words(
        'an entry in params with money = "yuan" or money = "fen"',
        '在 params 中写 money = "yuan"（元）或 money = "fen"（分）',
    )
    report.value("H212", path, message, fix)


def _misfit(key: str, path: Path, report: Reporter) -> None:
    message = Words(f"{key} does not fit the type of this value", f"{key} 不适用于这个值的类型")
    report.key("H211", (*path, key), message, Words(f"delete {key}", f"删除 {key}"))
