"""`[outcome]`: what the HIS's own answer means. Total: `otherwise` is for every answer that the table does not name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from his160.v1 import reason_pb2

from his_db.document.finding import Words
from his_db.document.located import Path
from his_db.document.shape import Duration, Field, ListOf, OneOf, Scalar, TableOf, Text
from his_db.errors import HisBusy, HisError, HisRefused, HisUnavailable, MappingMismatch, OutcomeUnknown
from his_db.mapping.answer import reason_value
from his_db.mapping.check_results import check_reason
from his_db.mapping.convert_in import code_text
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.model import OperationMapping

_WORD: Final = Text(min_length=1)
_COLUMN: Final = TableOf({"column": Field(_WORD, required=True)})
_SUCCESS: Final = TableOf(
    {"is": Field(Scalar()), "text": Field(_WORD, doc="part of the HIS's sentence", doc_zh="HIS 提示语中的文字")}
)
_ERROR: Final = TableOf(
    {
        "is": Field(Scalar()),
        "text": Field(_WORD, doc="part of the HIS's sentence", doc_zh="HIS 提示语中的文字"),
        "reason": Field(_WORD, required=True),
        "retry": Field(Duration(timedelta(milliseconds=1), timedelta(hours=1))),
    }
)
OUTCOME: Final = TableOf(
    {
        "from": Field(OneOf(_WORD, _COLUMN), required=True, doc="where the code is", doc_zh="返回码所在"),
        "ok": Field(ListOf(OneOf(Scalar(), _SUCCESS), min_items=1), required=True),
        "errors": Field(ListOf(_ERROR), default=[]),
        "text": Field(OneOf(_WORD, _COLUMN)),
        "otherwise": Field(_WORD, required=True, doc='"unknown" or a reason', doc_zh="“unknown” 或原因"),
    }
)

Value = Callable[[Any], Any]
"""Reads `from` or `text` of the table in one answer of the HIS. Raises MappingMismatch when it is not there."""


def check_outcome(
    mapping: OperationMapping, report: Reporter, *, names: Collection[str], strict: bool, columns: bool = True
) -> None:
    """`names`: what `from` and `text` may name; not looked at unless `strict`. `columns`: `{ column = … }` is known."""
    outcome = mapping.values["outcome"]
    for key in ("from", "text"):
        name = outcome.get(key)
        is_sure = strict and not report.document.damage.loses(("params",))
        if isinstance(name, str) and is_sure and name.casefold() not in {item.casefold() for item in names}:
            message = Words(
                f'"{name}" is no OUT, INOUT or RETURN parameter', f"“{name}” 不是 OUT、INOUT 或 RETURN 参数"
            )
            report.value("H224", ("outcome", key), message, did_you_mean(name, names))
        if isinstance(name, Mapping) and not columns:
            message = Words("here a path of the reply is written as text", "这里直接写应答中的路径（文本）")
            report.value("H224", ("outcome", key), message)
    _check_errors(outcome, report)
    if outcome["otherwise"] != "unknown":
        check_reason(outcome["otherwise"], ("outcome", "otherwise"), report, also=("unknown",))


def _check_errors(outcome: Mapping[str, Any], report: Reporter) -> None:
    seen: list[tuple[str | None, str]] = []
    for key in ("ok", "errors"):
        for at, item in enumerate(outcome[key]):
            path: Path = ("outcome", key, at)
            if key == "errors":
                check_reason(item["reason"], (*path, "reason"), report)
            code, part = _looked_for(item)
            if code is None and not part:
                message = Words("is or text is needed", "必须写 is 或 text")
                report.key("H224", path, message)
                continue
            # What stands before it and takes every answer that this line could take.
            if any(before in {None, code} and earlier in part for before, earlier in seen):
                message = Words("this answer has a meaning already", "这个返回值已经有了含义")
                fix = Words("name each answer once; the narrower text first", "每种返回只写一次；文字更长的写在前面")
                where = path if not isinstance(item, Mapping) else (*path, "text" if code is None else "is")
                report.value("H224", where, message, fix)
            seen.append((code, part))


def _looked_for(item: Any) -> tuple[str | None, str]:
    """Code (None: any) and part of the sentence of one line of `ok` or `errors`."""
    if not isinstance(item, Mapping):
        return code_text(item), ""
    return code_text(item["is"]) if "is" in item else None, item.get("text", "")


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer of the HIS that has a meaning. `code` "" is a blank one, or NULL."""

    code: str | None
    part: str

    def fits(self, code: str, sentence: str) -> bool:
        return (self.code is None or self.code == code) and self.part in sentence


@dataclass(frozen=True, slots=True)
class _Verdict:
    reason: reason_pb2.Reason.ValueType
    retry: timedelta | None = None


class Outcome:
    """The table, compiled."""

    __slots__ = ("_errors", "_from", "_is_read", "_label", "_ok", "_otherwise", "_text")

    def __init__(self, table: Mapping[str, Any], label: str, *, is_read: bool) -> None:
        self._label = label
        self._is_read = is_read
        self._from = table["from"]
        self._text = table.get("text")
        self._ok = tuple(_Answer(*_looked_for(item)) for item in table["ok"])
        self._errors = tuple(
            (_Answer(*_looked_for(item)), _Verdict(reason_value(item["reason"]), item.get("retry")))
            for item in table["errors"]
        )
        other = table["otherwise"]
        self._otherwise = None if other == "unknown" else _Verdict(reason_value(other))

    def judge(self, value: Value) -> None:
        """Nothing when the answer means success. Raises HisRefused, HisBusy, HisUnavailable or OutcomeUnknown.

        The part of a sentence is looked for in `text`, or in `from` where there is no `text`. NULL is no code but the
        blank one, `""`. An unknown answer to a read is a MappingMismatch: nothing needs a probe.
        """
        found = value(self._from)
        code = "" if found is None else code_text(found)
        if any(answer == _Answer(code, "") for answer in self._ok):
            return  # a row of success need not have the column of the sentence
        sentence = self._sentence(code, value)
        if any(answer.fits(code, sentence) for answer in self._ok):
            return
        verdict = next((verdict for answer, verdict in self._errors if answer.fits(code, sentence)), self._otherwise)
        if verdict is None:
            detail = f"{self._label}: the HIS answered a code that the mapping does not know"
            raise MappingMismatch(detail) if self._is_read else OutcomeUnknown(detail)
        raise self._error(verdict, sentence if self._text is not None else "")

    def _sentence(self, code: str, value: Value) -> str:
        if self._text is None:
            return code
        given = value(self._text)
        return "" if given is None else str(given).strip()

    def _error(self, verdict: _Verdict, sentence: str) -> HisError:
        return error_for(verdict.reason, self._label, text=sentence, retry=verdict.retry)


def error_for(
    reason: reason_pb2.Reason.ValueType, label: str, *, text: str = "", retry: timedelta | None = None
) -> HisError:
    """HIS_BUSY, HIS_UNAVAILABLE and OUTCOME_UNKNOWN mean what they say; every other reason is a refusal."""
    detail = f"{label}: the HIS answered {reason_pb2.Reason.Name(reason)}"
    if reason == reason_pb2.REASON_HIS_BUSY:
        return HisBusy(detail, retry_after=retry)
    if reason == reason_pb2.REASON_HIS_UNAVAILABLE:
        return HisUnavailable(detail, retry_after=retry)
    if reason == reason_pb2.REASON_OUTCOME_UNKNOWN:
        return OutcomeUnknown(detail, retry_after=retry)
    return HisRefused(reason, detail, text=text, retry_after=retry)
