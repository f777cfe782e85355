"""Checking `[[result]]`: fields exist and fit, required ones are mapped once, reasons exist, columns are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from his160.v1 import reason_pb2

from his_db import contract
from his_db.document.finding import Words, nearest
from his_db.document.located import Path
from his_db.mapping.check_codes import check_values
from his_db.mapping.check_params import check_format, no_such_codes, table_at
from his_db.mapping.convert_in import Unconvertible, fixed_value
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.model import CodeMap, FieldSpec, OperationMapping, ResultSpec, SegmentsSpec
from his_db.mapping.paths import field_names, resolve, sort_of
from his_db.mapping.segments import FIELDS as SEGMENT_FIELDS

_FORMATS_OF: Final[Mapping[str, frozenset[str]]] = {
    "date": frozenset({"date", "datetime"}),
    "time": frozenset({"time", "datetime"}),
    "timestamp": frozenset({"datetime"}),
}
_TWO: Final = frozenset({"date", "time", "datetime"})


def reasons() -> tuple[str, ...]:
    """Short names of the reasons of the contract."""
    return tuple(contract.enum_numbers(reason_pb2.Reason.DESCRIPTOR))


def check_reason(name: str, path: Path, report: Reporter, *, also: Sequence[str] = ()) -> None:
    """A short name of `his160.v1.Reason`."""
    if name not in reasons():
        message = Words(f'the contract has no reason "{name}"', f"标准中没有原因 “{name}”")
        report.value("H217", path, message, did_you_mean(name, [*also, *reasons()]))


def check_results(mapping: OperationMapping, report: Reporter) -> None:
    """All results of an operation, and that together with the answers they fill what the contract requires."""
    response = mapping.operation.response
    covered: set[str] = {answer.to for answer in mapping.answers}
    for result in mapping.results:
        if result.not_found:
            check_reason(result.not_found, (*result.path, "not_found"), report)
        if result.set is not None and mapping.kind not in {"procedure", "steps"}:
            message = Words("set belongs to procedures and steps", "set 只用于存储过程和 steps")
            report.key("H230", (*result.path, "set"), message)
        if result.at and mapping.kind != "http":
            report.key("H230", (*result.path, "at"), Words("at belongs to kind = http", "at 只用于 kind = http"))
        if result.page_key and (result.rows != "many" or not mapping.operation.page_size):
            message = Words("this operation does not page", "该操作不分页")
            report.key("H229", (*result.path, "page_key"), message, Words("delete page_key", "删除 page_key"))
        descriptor = _target(result, response, report)
        if descriptor is None:
            continue
        prefix = f"{result.into}." if result.into and result.rows != "many" else ""
        taken = {} if result.rows == "many" else dict.fromkeys(covered, "")
        found = check_fields(result.fields, descriptor, mapping.site.codes, report, prefix=prefix, taken=taken)
        if result.rows == "many":
            covered.add(result.into)
            found |= set(SEGMENT_FIELDS) if result.segments is not None else set()
            check_required(descriptor, found, result.path, report, at_root=True)
        else:
            covered |= {prefix + name for name in found}
            check_required(descriptor, found, result.path, report, at_root=bool(prefix))
    if len(mapping.results) > 1 and mapping.kind not in {"procedure", "http", "steps"}:
        message = Words(
            "one [[result]] only; its `to` may reach into several messages",
            "只能有一个 [[result]]；可用 to 的路径写入多个部分",
        )
        report.key("H230", mapping.results[1].path, message)
    if mapping.kind != "unsupported":
        path: Path = mapping.results[0].path if mapping.results else ()
        check_required(response, covered, path, report, at_root=True, deep=False)
        if mapping.operation.list_field and not mapping.results and not mapping.answers:
            message = Words("a list needs [[result]]", "列表类操作必须有 [[result]]")
            report.key("H230", (), message)


def _target(result: ResultSpec, response: Descriptor, report: Reporter) -> Descriptor | None:
    """The message that each row becomes, or None after a report."""
    if not result.into:
        if result.rows == "many":
            message = Words('rows = "many" needs a list to go into', 'rows = "many" 必须写 into')
            report.key("H230", (*result.path, "rows"), message)
            return None
        return response
    found = resolve(response, result.into)
    last = found[-1] if found else None
    inner = last.message_type if last is not None else None
    if last is None or inner is None or contract.is_map(last):
        names = [field.name for field in response.fields if field.message_type is not None]
        message = Words(f"the answer has no message {result.into}", f"返回内容中没有 {result.into}")
        report.value("H230", (*result.path, "into"), message, did_you_mean(result.into, names))
        return None
    if last.is_repeated != (result.rows == "many"):
        what = Words("is a list", "是列表") if last.is_repeated else Words("is no list", "不是列表")
        message = Words(
            f'{result.into} {what.en}: rows = "{result.rows}" does not fit',
            f"{result.into} {what.zh}，与 rows = “{result.rows}” 不符",
        )
        report.key("H230", (*result.path, "rows"), message)
        return None
    return inner


def check_fields(
    fields: Sequence[FieldSpec],
    descriptor: Descriptor,
    codes: Mapping[str, CodeMap],
    report: Reporter,
    *,
    prefix: str = "",
    taken: dict[str, str] | None = None,
) -> set[str]:
    """The entries of `fields` against one message. Returns the paths that are mapped."""
    found: set[str] = set()
    known = taken if taken is not None else {}
    for spec in fields:
        path = resolve(descriptor, spec.to)
        place = (*spec.path, "to")
        if path is None:
            message = Words(f"{descriptor.name} has no field {spec.to}", f"{descriptor.name} 没有字段 {spec.to}")
            report.value("H208", place, message, did_you_mean(spec.to, field_names(descriptor)))
            continue
        full = prefix + spec.to
        clash = full in known or any(full.startswith(f"{name}.") for name in known if name)
        if clash or spec.to in found:
            report.value(
                "H210",
                place,
                Words(f"{spec.to} is mapped twice", f"{spec.to} 写了两次"),
                Words("delete one", "删除其中一个"),
            )
        found.add(spec.to)
        check_field(spec, path[-1], codes, report)
    return found


def check_field(
    spec: FieldSpec,
    field: FieldDescriptor,
    codes: Mapping[str, CodeMap],
    report: Reporter,
    *,
    place: Path = (),
) -> None:
    """One entry of `fields` against its field. `place`: where its name is written (default: its `to`)."""
    place = place or (*spec.path, "to")
    sort = sort_of(field)
    if sort in {"message", "list", ""}:
        names = field_names(field.message_type) if field.message_type is not None and sort == "message" else ()
        message = Words(f"{spec.to} is not a single value", f"{spec.to} 不是单个值")
        report.value("H211", place, message, did_you_mean("", [f"{spec.to}.{name}" for name in names]))
        return
    if not _check_sources(spec, sort, report):
        return
    table = table_at(report.document, spec.path)
    has_unit = bool(spec.money) or report.document.damage.hides((*spec.path, "money"))
    if sort == "money" and spec.const is None and not has_unit and not spec.contains:
        message = Words(
            f"{spec.to} is an amount in fen: say in which unit the column is",
            f"{spec.to} 是以分为单位的金额，必须写明该列的单位",
        )
        report.value(
            "H212",
            place,
            message,
            Words('add money = "yuan" or money = "fen"', '补上 money = "yuan"（元）或 money = "fen"（分）'),
        )
    if spec.money and sort != "money":
        report.key(
            "H212", (*spec.path, "money"), Words("money fits only amounts (…_fen)", "money 只能用于金额字段（…_fen）")
        )
    _check_formats(spec, sort, report)
    if "true" in table and sort != "bool":
        report.key("H211", (*spec.path, "true"), Words("true fits only yes/no fields", "true 只能用于是/否字段"))
    if spec.contains or spec.charset:
        _check_text_only(spec, field, table, report)
    if spec.codes:
        _check_codes(spec, field, sort, codes, report)
    for key, value in (("const", spec.const), ("default", spec.default)):
        if value is not None:
            _check_fixed(field, value, (*spec.path, key), report)


def _check_text_only(spec: FieldSpec, field: FieldDescriptor, table: Mapping[str, object], report: Reporter) -> None:
    """`contains` and `charset` look at the text of one column."""
    for key in ("contains", "charset"):
        if key in table and not spec.column:
            report.key("H211", (*spec.path, key), Words(f"{key} needs column", f"{key} 要与 column 一起写"))
    for key in ("codes", "money", "date", "time", "datetime", "true"):
        if spec.contains and key in table:
            message = Words(f"contains and {key} exclude each other", f"contains 与 {key} 只能写一个")
            report.key("H211", (*spec.path, key), message)
    for at, (_, value) in enumerate(spec.contains):
        _check_fixed(field, value, (*spec.path, "contains", at, "is"), report)


def _check_sources(spec: FieldSpec, sort: str, report: Reporter) -> bool:
    """Exactly one of column, const, date_column with time_column."""
    sources = [bool(spec.column), spec.const is not None, bool(spec.date_column or spec.time_column)]
    if sum(sources) != 1:
        message = Words(
            "exactly one of column, const, or date_column with time_column is needed",
            "column、const、date_column 加 time_column 三者必须且只能写一种",
        )
        report.key("H219", spec.path, message)
        return False
    if bool(spec.date_column) != bool(spec.time_column):
        message = Words("date_column and time_column belong together", "date_column 与 time_column 必须同时写")
        report.key("H219", spec.path, message)
        return False
    if spec.date_column and sort != "timestamp":
        message = Words(
            f"{spec.to} is no date with time: two columns do not fit", f"{spec.to} 不是日期时间，不能用两列"
        )
        report.value("H211", (*spec.path, "to"), message)
        return False
    return True


def _check_formats(spec: FieldSpec, sort: str, report: Reporter) -> None:
    fitting = _TWO if spec.date_column else _FORMATS_OF.get(sort, frozenset())
    for key, formats in (("date", spec.date_formats), ("time", spec.time_formats), ("datetime", spec.formats)):
        if formats and (key not in fitting or spec.const is not None):
            fix = (
                Words(f"here: {' or '.join(sorted(fitting))}", f"这里可用：{'、'.join(sorted(fitting))}")
                if fitting
                else Words("", "")
            )
            report.key(
                "H211", (*spec.path, key), Words(f"{key} does not fit {spec.to}", f"{key} 不适用于 {spec.to}"), fix
            )
            continue
        needs = {"date": "date", "time": "time"}.get(
            key if spec.date_column else sort, "date" if sort == "timestamp" else ""
        )
        for at, text in enumerate(formats):
            raw = table_at(report.document, spec.path).get(key)
            place: Path = (*spec.path, key, at) if isinstance(raw, list) else (*spec.path, key)
            check_format(text, place, needs, report)


def _check_codes(
    spec: FieldSpec, field: FieldDescriptor, sort: str, codes: Mapping[str, CodeMap], report: Reporter
) -> None:
    place = (*spec.path, "codes")
    found = codes.get(spec.codes)
    if found is None:
        no_such_codes(spec.codes, place, codes, report)
        found = codes.get(nearest(spec.codes, codes))  # the one that was probably meant
    if found is None:
        return
    if sort == "enum":
        check_values(found, field, report)
    elif sort == "bool":
        message = Words("a yes/no field takes `true`, not codes", "是/否字段请用 true，而不是 codes")
        report.key("H211", place, message, Words("true = [ … ]", "true = [ … ]"))
    elif sort not in {"text", "int", "map"}:
        report.key("H211", place, Words(f"codes does not fit {spec.to}", f"codes 不适用于 {spec.to}"))
    elif sort == "int":
        for pair in found.pairs:
            _check_fixed(field, pair.value, place, report)


def _check_fixed(field: FieldDescriptor, value: object, path: Path, report: Reporter) -> None:
    try:
        fixed_value(field, value)
    except Unconvertible as error:
        if field.enum_type is not None:
            names = contract.enum_numbers(field.enum_type)
            message = Words(
                f'{field.enum_type.name} has no value "{value}"', f"{field.enum_type.name} 没有值 “{value}”"
            )
            report.value("H213", path, message, did_you_mean(str(value), names))
        else:
            report.value("H211", path, Words(f"the value {error}", "这个值与字段类型不符"))


def check_required(
    descriptor: Descriptor,
    mapped: Iterable[str],
    path: Path,
    report: Reporter,
    *,
    at_root: bool,
    deep: bool = True,
) -> None:
    """Required fields of a message, and of every message below it that a mapped path enters."""
    paths = set(mapped)
    for field in descriptor.fields:
        below = {name.partition(".")[2] for name in paths if name.startswith(f"{field.name}.")}
        is_there = field.name in paths or bool(below)
        if at_root and contract.is_required(field) and not is_there:
            what = contract.comment(field.full_name)
            message = Words(
                f"{descriptor.name}.{field.name} is required and not mapped",
                f"{descriptor.name}.{field.name} 是必填字段，但没有映射（{what}）",
            )
            fix = Words(f'add {{ to = "{field.name}", column = "…" }}', f'补上 {{ to = "{field.name}", column = "…" }}')
            report.key("H209", path, message, fix)
        if deep and below and field.message_type is not None and not contract.is_map(field):
            check_required(field.message_type, below, path, report, at_root=True)


def check_columns(results: Sequence[ResultSpec], outputs: Sequence[str] | None, report: Reporter) -> None:
    """Every column of the results is among the outputs of the statement; nothing to say when those are not known."""
    if outputs is None:
        return
    known = {name.casefold() for name in outputs}
    for result in results:
        for spec in result.fields:
            for key, name in (
                ("column", spec.column),
                ("date_column", spec.date_column),
                ("time_column", spec.time_column),
            ):
                if name and name.casefold() not in known:
                    no_such_column(name, (*spec.path, key), outputs, report)
        for name in result.segments.columns() if result.segments is not None else ():
            if name.casefold() not in known:
                no_such_column(name, _segment_place(result.segments, name), outputs, report)
        if result.page_key and result.page_key.casefold() not in known:
            no_such_column(result.page_key, (*result.path, "page_key"), outputs, report)


def _segment_place(spec: SegmentsSpec | None, name: str) -> Path:
    keys = ("begin", "end", "minutes", "count", "each", "total", "taken", "taken_count", "used")
    return ("segments", next(key for key in keys if getattr(spec, key) == name))


def no_such_column(name: str, path: Path, outputs: Sequence[str], report: Reporter) -> None:
    """Report a column that the statement does not give."""
    message = Words(f"the statement gives no column {name}", f"语句没有返回列 {name}")
    report.value("H309", path, message, did_you_mean(name, outputs))
