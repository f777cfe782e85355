"""A first mapping file for a table or procedure: what can be guessed is written, what is missing stands as a comment
that says what is needed. The file can be checked at once; the check then asks for the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from his_db import contract
from his_db.catalogue.model import Catalogue, Column, Routine, RoutineParameter, Table, family_of, padded_length
from his_db.contract import ContractOperation
from his_db.mapping.paths import sort_of
from his_db.workbench.discover import FieldMatch, match_fields, score_column
from his_db.workbench.vocabulary import SUBJECTS, Terms

_LENGTH: Final = re.compile(r"\((\d+)")
_DATES: Final = {8: "%Y%m%d", 10: "%Y-%m-%d"}
_MOMENTS: Final = {14: "%Y%m%d%H%M%S", 16: "%Y%m%d%H:%M:%S", 19: "%Y-%m-%d %H:%M:%S"}
_TIMES: Final = {4: "%H%M", 5: "%H:%M", 6: "%H%M%S", 8: "%H:%M:%S"}
_CODE: Final = re.compile(r"(?:^|_)(?:code|rc|ret|retcode|fhm|fhz|jg|status|result|errcode)$", re.IGNORECASE)
_TEXT: Final = re.compile(r"(?:^|_)(?:msg|message|xx|errmsg|fhxx|note|text|info)$", re.IGNORECASE)
_OPERATOR: Final = re.compile(r"(?:czyh|czy|czygh|czr|operator|oper|user)$", re.IGNORECASE)
_SURE: Final = 0.5


class ScaffoldRefused(Exception):
    """Nothing can be written; both sentences say why."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.en = en
        self.zh = zh


@dataclass(frozen=True, slots=True)
class Scaffold:
    """`path` within the mapping folder, and the text of the file; `resolved` and `open` count its fields."""

    path: str
    text: str
    resolved: int
    open: int


def file_of(operation: ContractOperation) -> str:
    """`catalog/list_slots.toml`."""
    service, _, method = operation.name.partition(".")
    area = service.removesuffix("Service").lower()
    return f"{area}/{re.sub(r'(?<!^)(?=[A-Z])', '_', method).lower()}.toml"


def scaffold_table(operation: ContractOperation, catalogue: Catalogue, name: str, *, source: str = "his") -> Scaffold:
    """A file of kind "table". Raises ScaffoldRefused for a write, or a table that is not there."""
    if not operation.is_read:
        raise ScaffoldRefused(
            f"{operation.name} writes: a table cannot do it, give --procedure or write steps",
            f'{operation.name} 是写操作，不能用表实现；请用 --procedure，或手写 kind = "steps"',
        )
    table = catalogue.table(name)
    if table is None:
        raise ScaffoldRefused(f"the database has no table or view {name}", f"数据库中没有表或视图 {name}")
    descriptor, prefix = _row(operation)
    matches = [match for match in _fields(operation, descriptor, table.columns) if match.confidence >= _SURE]
    lines = _head(operation, "table", source)
    lines.append(f'object = "{_written(table)}"')
    lines += _where(operation, table, catalogue.engine)
    lines += ["[[result]]"]
    if operation.page_size and len(table.primary_key) == 1:
        lines.append(f'page_key = "{table.primary_key[0]}"')
    body, resolved, missing = _result(descriptor, prefix, matches, {c.name: c for c in table.columns})
    return Scaffold(file_of(operation), "\n".join([*lines, *body, ""]), resolved, missing)


def scaffold_procedure(
    operation: ContractOperation, catalogue: Catalogue, name: str, *, source: str = "his"
) -> Scaffold:
    """A file of kind "procedure". Raises ScaffoldRefused for one that is not there."""
    routines = catalogue.routine(name)
    if not routines:
        raise ScaffoldRefused(f"the database has no procedure {name}", f"数据库中没有存储过程 {name}")
    routine = routines[0]
    lines = _head(operation, "procedure", source)
    full = f"{routine.schema}.{routine.name}" if routine.schema else routine.name
    lines.append(f'object = "{full}"')
    if routine.kind == "function":
        lines.append('call = "function"')
    if not operation.is_read:
        lines.append('commits = "caller"   # 过程内部自行 COMMIT 时改为 "procedure"；不清楚时写 "unknown"')
        probe = _probe(operation)
        if probe:
            lines.append(f'probe = "{probe}"')
    params, resolved, missing = _params(operation, routine)
    lines += ["params = [", *params, "]"]
    lines += _outcome(routine)
    outs = [p for p in routine.parameters if p.direction in {"out", "inout"} and not _CODE.search(p.name)]
    columns = {p.name: Column(p.name, p.type, True, "", family_of(p.type)) for p in outs if not _TEXT.search(p.name)}
    descriptor, prefix = _row(operation)
    matches = [match for match in _fields(operation, descriptor, columns.values()) if match.confidence >= _SURE]
    body, more, open_fields = _result(descriptor, prefix, matches, columns)
    if more:
        lines += ["[[result]]", 'rows = "one"', *body]
    else:
        lines += [f"# {line}" for line in ("[[result]]", 'rows = "one"', *(item.removeprefix("# ") for item in body))]
    return Scaffold(file_of(operation), "\n".join([*lines, ""]), resolved + more, missing + open_fields)


def _head(operation: ContractOperation, kind: str, source: str) -> list[str]:
    comment = contract.comment(operation.method.full_name)
    lines = [f"# {comment}"] if comment else []
    lines += ["schema = 1", f'operation = "{operation.name}"', f'kind = "{kind}"']
    if source != "his":
        lines.append(f'source = "{source}"')
    return lines


def _written(table: Table) -> str:
    return f"{table.schema}.{table.name}" if table.schema else table.name


def _row(operation: ContractOperation) -> tuple[Descriptor, str]:
    """The message of a row, and the path to it from what `to` is relative to."""
    response = operation.response
    if operation.list_field is not None:
        item = response.fields_by_name[operation.list_field].message_type
        assert item is not None
        return item, ""
    messages = [field for field in response.fields if sort_of(field) == "message"]
    if len(messages) >= 1 and messages[0].message_type is not None:
        return messages[0].message_type, f"{messages[0].name}."
    return response, ""


def _subject(operation: ContractOperation, descriptor: Descriptor) -> str:
    by_operation = [name for name, subject in SUBJECTS.items() if operation.name in subject.operations]
    by_message = [name for name, subject in SUBJECTS.items() if subject.message == descriptor.name]
    return next(iter([*by_message, *by_operation]), "appointment")


def _fields(operation: ContractOperation, descriptor: Descriptor, columns: Iterable[Column]) -> Iterator[FieldMatch]:
    listed = list(columns)
    used: set[str] = set()
    known: set[str] = set()
    for match in match_fields(_subject(operation, descriptor), listed):
        if match.field in descriptor.fields_by_name:
            used.add(match.column)
            known.add(match.field)
            yield match
    # What the subject does not know, other subjects may.
    for field in descriptor.fields:
        if field.name not in known:
            best = _best(_terms(field.name), [column for column in listed if column.name not in used])
            if best is not None:
                used.add(best[1].name)
                yield FieldMatch(field.name, best[1].name, best[1].type, best[0], "name")


def _terms(field: str) -> list[Terms]:
    return [subject.fields[field] for subject in SUBJECTS.values() if field in subject.fields]


def _best(terms: Iterable[Terms], columns: Iterable[Column]) -> tuple[float, Column] | None:
    """Only what is more than a bare `id` or `name`."""
    scored = [
        (score, column)
        for column in columns
        for each in terms
        if (score := score_column(each, column.name, column.comment)[0]) > 0.6
    ]
    return max(scored, key=lambda item: item[0]) if scored else None


def _result(
    descriptor: Descriptor, prefix: str, matches: Iterable[FieldMatch], columns: dict[str, Column]
) -> tuple[list[str], int, int]:
    by_field = {match.field: match for match in matches}
    lines = ["fields = ["]
    resolved = missing = 0
    for field in descriptor.fields:
        if field.name == "next_page_token":
            continue
        match = by_field.get(field.name)
        entry = None if match is None else _entry(field, prefix, columns[match.column])
        if entry is not None and not entry.startswith("#"):
            lines.append(f"  {entry}")
            resolved += 1
        elif entry is not None or contract.is_required(field) or _is_plain(field):
            lines.append(f"  {entry or _wanted(field, prefix)}")
            missing += 1
    return [*lines, "]"], resolved, missing


def _is_plain(field: FieldDescriptor) -> bool:
    return sort_of(field) not in {"message", "list", "map", ""}


def _wanted(field: FieldDescriptor, prefix: str) -> str:
    required = "必填 required" if contract.is_required(field) else "可选 optional"
    return f'# {{ to = "{prefix}{field.name}", column = "…" }},  # {required}：{_comment(field)}'


def _comment(field: FieldDescriptor) -> str:
    return " ".join(contract.comment(field.full_name).split())[:160]


def _entry(field: FieldDescriptor, prefix: str, column: Column) -> str | None:
    """One line of `fields`; a comment where something is still needed."""
    sort = sort_of(field)
    head = f'to = "{prefix}{field.name}", column = "{column.name}"'
    if sort == "enum":
        assert field.enum_type is not None
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", field.enum_type.name).lower()
        values = "、".join(contract.enum_numbers(field.enum_type))
        needed = f"需要代码对照表 codes/{name}.toml，HIS 代码对应 / needs a code map to: {values}"
        return f'# {{ {head}, codes = "{name}" }},  # {needed}'
    if sort == "money":
        return f'{{ {head}, money = "yuan" }},'
    if sort in {"date", "time", "timestamp"}:
        return _moment_entry(field, head, sort, column)
    if sort in {"text", "int", "bool"}:
        return f"{{ {head} }},"
    return None


def _moment_entry(field: FieldDescriptor, head: str, sort: str, column: Column) -> str:
    if column.family in {"date", "time", "datetime"}:
        return f"{{ {head} }},"
    match = _LENGTH.search(column.type)
    length = int(match[1]) if match else 0
    if sort == "time":
        form = _TIMES.get(length) or _MOMENTS.get(length, "")
        key = "time"
    elif sort == "date":
        form = _DATES.get(length) or _MOMENTS.get(length, "")
        key = "date" if length in _DATES else "datetime"
    else:
        form, key = _MOMENTS.get(length, ""), "datetime"
    if not form:
        needed = f"需要写明 {column.type} 的日期格式 / needs the format: {_comment(field)}"
        return f'# {{ {head}, {key} = "%Y-%m-%d" }},  # {needed}'
    return f'{{ {head}, {key} = "{form}" }},'


def _where(operation: ContractOperation, table: Table, engine: str) -> list[str]:
    """Filters from the request's fields that a column fits; ranges by their names from_ and to_."""
    lines: list[str] = []
    for field in operation.request.fields:
        if field.name in {"request_id", "page_size", "page_token"} or not _is_plain(field):
            continue
        compare, wanted = "=", field.name
        if field.name in {"from_date", "to_date"}:
            compare, wanted = (">=" if field.name == "from_date" else "<="), "visit_date"
        best = _best(_terms(wanted), table.columns)
        if best is None or sort_of(field) in {"enum", "bool"}:
            lines.append(f"  # {field.name}: {_comment(field)}")
            continue
        column = best[1]
        optional = "" if contract.is_required(field) else ", optional = true"
        how = "" if compare == "=" else f', compare = "{compare}"'
        moment = ""
        if sort_of(field) == "date" and column.family == "text":
            match = _LENGTH.search(column.type)
            length = int(match[1]) if match else 0
            form = _DATES.get(length) or (
                "%Y-%m-%d 00:00:00" if length == 19 else "%Y%m%d00:00:00" if length == 16 else ""
            )
            moment = f', date = "{form or "%Y-%m-%d"}"'
        pad, why = _pad(column, engine) if sort_of(field) == "text" else ("", "")
        lines.append(f'  {{ column = "{column.name}", from = "{field.name}"{how}{moment}{pad}{optional} }},{why}')
    return ["where = [", *lines, "]"] if lines else []


def _pad(column: Column, engine: str) -> tuple[str, str]:
    """The `pad` of a filter on a CHAR column, and why; empty where the database ignores trailing blanks."""
    length = padded_length(column.type, engine)
    if not length:
        return "", ""
    why = f"  # {column.type} 定长，比较时须补足空格；对列用 RTRIM 会失去索引 / CHAR: an unpadded text never equals it"
    return f", pad = {length}", why


def _params(operation: ContractOperation, routine: Routine) -> tuple[list[str], int, int]:
    lines: list[str] = []
    resolved = missing = 0
    request = [f for f in operation.request.fields if _is_plain(f) and f.name != "request_id"]
    for parameter in routine.parameters:
        if parameter.direction == "column":
            continue
        kind = f', type = "{parameter.type}"' if parameter.type else ""
        direction = "" if parameter.direction == "in" else f', dir = "{parameter.direction}"'
        name = f'name = "{parameter.name or parameter.direction}"'
        if parameter.direction not in {"in", "inout"}:
            lines.append(f"  {{ {name}{direction}{kind} }},")
            continue
        source = _source(parameter, request)
        if source:
            lines.append(f"  {{ {name}, {source}{direction}{kind} }},")
            resolved += 1
        else:
            names = "、".join(field.name for field in request)
            lines.append(
                f'  # {{ {name}, from = "…"{direction}{kind} }},  # 需要 needs：请求字段（{names}）、$ 值或 const'
            )
            missing += 1
    return lines, resolved, missing


def _source(parameter: RoutineParameter, request: list[FieldDescriptor]) -> str:
    if _OPERATOR.search(parameter.name):
        return 'const = "jk160"'
    column = Column(parameter.name, parameter.type, True, "", family_of(parameter.type))
    scored = [(best[0], field) for field in request if (best := _best(_terms(field.name), [column])) is not None]
    if not scored:
        return ""
    field = max(scored, key=lambda item: item[0])[1]
    money = ', money = "yuan"' if sort_of(field) == "money" else ""
    moment = ', date = "%Y%m%d"' if sort_of(field) == "date" and column.family == "text" else ""
    return f'from = "{field.name}"{money}{moment}'


def _outcome(routine: Routine) -> list[str]:
    outs = [p for p in routine.parameters if p.direction in {"out", "inout", "return"}]
    code = next((p for p in outs if p.direction == "return" or _CODE.search(p.name)), None)
    text = next((p for p in outs if p.name and _TEXT.search(p.name)), None)
    if code is None:
        return ['# [outcome]  # 需要：表示成败的返回参数，如 from = "o_code"，ok = [0] / needs the return code']
    lines = ["[outcome]", f'from = "{code.name or "return"}"', "ok = [0]"]
    if text is not None:
        lines.append(f'text = "{text.name}"')
    lines += [
        "errors = [",
        '  # { is = -1, reason = "SLOT_TAKEN" },  # 需要：逐个列出过程的返回码 / needs every code of the procedure',
        "]",
        'otherwise = "unknown"',
    ]
    return lines


def _probe(operation: ContractOperation) -> str:
    service, _, method = operation.name.partition(".")
    candidates = {
        "AppointmentService": "AppointmentService.GetAppointment",
        "PaymentService": "PaymentService.GetRefund" if "Refund" in method else "PaymentService.GetPayment",
    }
    return candidates.get(service, "")
