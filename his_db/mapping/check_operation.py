"""Checking what every operation file says, whatever its kind, and what only the whole set shows (probe, answer)."""

from __future__ import annotations

from collections.abc import Mapping

from his_db import contract
from his_db.document.finding import Words
from his_db.document.located import Path
from his_db.kind import Kind
from his_db.mapping.check_results import check_results
from his_db.mapping.check_segments import check_segments
from his_db.mapping.check_tests import check_operation_tests
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.model import FILE, AnswerSpec, OperationMapping
from his_db.mapping.paths import resolve, sort_of

UNSUPPORTED = "unsupported"
HTTP = "http"
_OVER_HTTP = frozenset({HTTP, "gateway"})


def check_operation(mapping: OperationMapping, kind: Kind | None, report: Reporter) -> None:
    """One operation by itself: source, effect, kind, results, and what its kind sees. None: nobody knows its kind."""
    operation = mapping.operation
    effect = "read" if operation.is_read else "write"
    check_source(mapping.source, mapping.site.sources, report)
    given = mapping.values.get("effect", effect)
    if given != effect:
        message = Words(
            f"the contract says that {operation.name} is a {effect}", f"标准规定 {operation.name} 是{_zh(effect)}操作"
        )
        report.value("H204", ("effect",), message, Words(f'effect = "{effect}"', f'effect = "{effect}"'))
    if kind is not None and effect not in kind.effects:
        message = Words(f'kind = "{kind.name}" cannot {effect}', f'kind = "{kind.name}" 不能用于{_zh(effect)}操作')
        fix = Words('use kind = "steps" or kind = "procedure"', '请用 kind = "steps" 或 kind = "procedure"')
        report.value("H203", ("kind",), message, fix)
        kind = None  # what it wants of the rest is not what the right kind will want
    if kind is not None:
        check_engine(mapping, report)
    for key in ("probe", "answer"):
        if operation.is_read and key in mapping.values:
            message = Words(f"{key} belongs to writing operations", f"{key} 只用于写操作")
            report.key("H218", (key,), message, Words(f"delete {key}", f"删除 {key}"))
    if not operation.is_read and "cache" in mapping.values:
        message = Words("cache belongs to reading operations", "cache 只用于查询操作")
        report.key("H218", ("cache",), message, Words("delete cache", "删除 cache"))
    check_results(mapping, report)
    check_segments(mapping, report)
    if kind is not None:
        kind.check(mapping, report)
        check_operation_tests(mapping, report)


def check_engine(mapping: OperationMapping, report: Reporter, place: Path = ("kind",)) -> None:
    """Kinds "http" and "gateway" speak to a source of engine "http", and every other kind to a database."""
    if not mapping.engine or mapping.kind == UNSUPPORTED:
        return
    if mapping.engine == FILE or (mapping.engine == HTTP) != (mapping.kind in _OVER_HTTP):
        message = Words(
            f'kind = "{mapping.kind}" does not fit the source {mapping.source}, whose engine is {mapping.engine}',
            f'kind = "{mapping.kind}" 不适用于数据源 {mapping.source}（引擎为 {mapping.engine}）',
        )
        report.value("H233", place, message, Words("use the other kind or source", "请换 kind 或 source"))


def _zh(effect: str) -> str:
    return "查询" if effect == "read" else "写"


def check_source(name: str, sources: Mapping[str, str], report: Reporter, place: Path = ("source",)) -> None:
    """The source is one of config.toml."""
    if name not in sources:
        message = Words(f"config.toml has no [source.{name}]", f"config.toml 中没有 [source.{name}]")
        report.value("H205", place, message, did_you_mean(name, sources))


def check_among(mapping: OperationMapping, operations: Mapping[str, OperationMapping], report: Reporter) -> None:
    """What an operation says about others of its set: they are mapped reads, and can be asked with what it knows."""
    if mapping.operation.is_read:
        return
    if mapping.probe:
        _check_read(mapping.probe, ("probe",), mapping, operations, report)
    for answer in mapping.answers:
        place: Path = (*answer.path, "read")
        read = _check_read(answer.read, place, mapping, operations, report)
        if read is not None:
            _check_answer(answer, mapping, read, report)


def _check_read(
    name: str, path: Path, mapping: OperationMapping, operations: Mapping[str, OperationMapping], report: Reporter
) -> OperationMapping | None:
    reads = [item for item in contract.mappable_names() if contract.operation(item).is_read]
    if name not in reads:
        message = Words(f'"{name}" is no reading operation', f"“{name}” 不是查询类操作")
        report.value("H218", path, message, did_you_mean(name, reads))
        return None
    found = operations.get(name)
    if found is None or found.kind == UNSUPPORTED:
        message = Words(f"{name} is not mapped here", f"本院没有映射 {name}")
        report.value("H218", path, message, Words(f"write a mapping for {name}", f"请为 {name} 编写映射"))
        return None
    required = contract.required_fields(found.operation.request)
    own = mapping.operation.request.fields_by_name
    shared = [field for field in found.operation.request.fields_by_name if field in own]
    missing = [field for field in required if field not in own]
    if missing or not shared:
        lacking = ", ".join(missing) or "…"
        message = Words(
            f"{name} needs {lacking}, which this request does not have", f"{name} 需要 {lacking}，而该请求中没有"
        )
        report.value("H218", path, message)
        return None
    return found


def _check_answer(answer: AnswerSpec, mapping: OperationMapping, read: OperationMapping, report: Reporter) -> None:
    place: Path = (*answer.path, "to")
    response = mapping.operation.response
    found = resolve(response, answer.to)
    messages = [field.name for field in response.fields if sort_of(field) == "message"]
    if found is None or sort_of(found[-1]) != "message":
        message = Words(f"the answer has no message {answer.to}", f"返回内容中没有 {answer.to}")
        report.value("H218", place, message, did_you_mean(answer.to, messages))
        return
    wanted = found[-1].message_type
    assert wanted is not None
    given = [field.message_type for field in read.operation.response.fields]
    if wanted not in given:
        message = Words(
            f"{answer.read} does not answer with a {wanted.name}", f"{answer.read} 返回的不是 {wanted.name}"
        )
        report.value("H218", place, message)
    if read.kind and read.source != mapping.source:
        message = Words(
            "write and answer must use one source: they share a transaction",
            "写操作与 answer 必须使用同一个数据源（同一事务）",
        )
        report.value("H218", (*answer.path, "read"), message)
