"""Checking code maps: no HIS code twice, one way back where it is used backwards, values that the enum has."""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor

from his_db import contract
from his_db.document.finding import Words, listed
from his_db.mapping.convert_in import code_text
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.model import REFUSE, CodeMap


def check_map(codes: CodeMap, report: Reporter) -> None:
    """What is wrong whoever uses it."""
    seen: set[str] = set()
    for pair in codes.pairs:
        text = code_text(pair.his)
        if text in seen:
            message = Words("this HIS code is in the map already", "这个 HIS 代码已经写过了")
            report.value(
                "H216", (*pair.path, "his"), message, Words("keep one line for each code", "每个代码只保留一行")
            )
        seen.add(text)


def check_backwards(codes: CodeMap, report: Reporter) -> None:
    """A map that is used contract -> HIS: each contract value has one HIS code."""
    own = Reporter(codes.document, report.problems)
    seen: set[str] = set()
    for pair in codes.pairs:
        text = code_text(pair.value)
        if pair.back and text in seen:
            message = Words(
                f'"{text}" has two HIS codes, so the way back is not clear',
                f"“{text}” 对应两个 HIS 代码，反向转换不明确",
            )
            fix = Words("write back = false on all but one", "除一行外，其余都写上 back = false")
            _once(own, "H216", (*pair.path, "is"), message, fix)
        if pair.back:
            seen.add(text)


def check_all_back(codes: CodeMap, field: FieldDescriptor, report: Reporter) -> None:
    """A map that is used contract -> HIS with an enum field: every value of the enum has a HIS code."""
    if codes.otherwise_back is not None or field.enum_type is None:
        return
    given = {pair.value for pair in codes.pairs if pair.back}
    missing = [name for name in contract.enum_numbers(field.enum_type) if name not in given]
    if missing:
        own = Reporter(codes.document, report.problems)
        message = Words(
            f"no HIS code for {listed(missing)}: requests with these are refused",
            f"缺少 {listed(missing)} 对应的 HIS 代码：含这些值的请求会被拒绝",
        )
        fix = Words("add lines, or otherwise_back", "补上这些行，或写 otherwise_back")
        _once(own, "H234", ("codes",), message, fix, is_warning=True)


def check_values(codes: CodeMap, field: FieldDescriptor, report: Reporter) -> None:
    """A map that is used with an enum field: every contract value is a short name of it."""
    enum = field.enum_type
    assert enum is not None
    own = Reporter(codes.document, report.problems)
    names = contract.enum_numbers(enum)
    values = [((*pair.path, "is"), pair.value) for pair in codes.pairs]
    if codes.otherwise is not None:
        values.append((("otherwise",), codes.otherwise))
    for path, value in values:
        if value not in names:
            message = Words(f'{enum.name} has no value "{value}"', f"{enum.name} 没有值 “{value}”")
            fix = did_you_mean(str(value), names)
            if path == ("otherwise",):
                fix = Words(f'{fix.en} or "{REFUSE}"', f"{fix.zh} 或 “{REFUSE}”")
            _once(own, "H213", path, message, fix)


def _once(
    report: Reporter, code: str, path: tuple[str | int, ...], message: Words, fix: Words, *, is_warning: bool = False
) -> None:
    """Several mappings use one map: its problems are reported once."""
    place = report.document.value_place(path)
    if not any(found.place == place and found.message == message.en for found in report.problems):
        (report.warn if is_warning else report.value)(code, path, message, fix)
