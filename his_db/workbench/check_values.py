"""What the census of code values means for the mappings: findings, each with the line that mends it."""

from __future__ import annotations

import json
from collections.abc import Iterable

from his_db import contract
from his_db.document.finding import Words, listed
from his_db.document.problem import Problems
from his_db.mapping.finding import Reporter
from his_db.workbench.code_census import Census, CodeCount

_LISTED = 8


def check_values(censuses: Iterable[Census], problems: Problems) -> None:
    """H513 for values that refuse their row, H514 for those that `otherwise` hides, H515 where nothing was counted."""
    told: set[tuple[str, str, tuple[str, ...]]] = set()
    for census in censuses:
        values = tuple(sorted(f"{item.verdict}{item.shown}" for item in census.counts if item.verdict != "known"))
        tale = (census.where, census.coded.spec.codes, values or (census.failed.en,))
        if tale in told:
            continue  # another mapping reads the same column with other conditions
        told.add(tale)
        report = Reporter(census.coded.use.document, problems)
        path = (*census.coded.spec.path, "codes" if census.coded.spec.codes else "column")
        if census.failed.en:
            message = Words(
                f"the values of {census.where} were not counted: {census.failed.en}",
                f"未能统计 {census.where} 的取值：{census.failed.zh}",
            )
            fix = Words(
                "SELECT the column with COUNT(*) and GROUP BY yourself", "请自行用 COUNT(*) 和 GROUP BY 统计该列"
            )
            report.warn("H515", path, message, fix)
        _unknown(census, path, report)
        _caught(census, path, report)


def _unknown(census: Census, path: tuple[str | int, ...], report: Reporter) -> None:
    found = [count for count in census.counts if count.verdict == "unknown"]
    if not found:
        return
    coded = census.coded
    whom = _whom(census)
    message = Words(
        f"{census.where} holds {_values(found)} that {whom.en} does not know ({_looked_at(census).en})",
        f"{census.where} 中有 {whom.zh} 不认识的值 {_values(found)}（{_looked_at(census).zh}）",
    )
    if coded.codes is not None:
        fix = _line(census, found)
    elif coded.field.enum_type is not None:
        names = listed(list(contract.enum_numbers(coded.field.enum_type)))
        fix = Words(f"give the field a code map to {names}", f"请为该字段写代码对照表（codes），目标值为 {names}")
    else:
        fix = Words("say in `true` which values mean true", "请在 true 中写明哪些值表示“是”")
    report.value("H513", path, message, fix)


def _caught(census: Census, path: tuple[str | int, ...], report: Reporter) -> None:
    found = [count for count in census.counts if count.verdict == "caught"]
    codes = census.coded.codes
    if not found or codes is None:
        return
    message = Words(
        f'{census.where} holds {_values(found)} that code map {codes.name} does not name: "{codes.otherwise}" is told '
        f"({_looked_at(census).en})",
        f"{census.where} 中有对照表 {codes.name} 未列出的值 {_values(found)}，一律按 “{codes.otherwise}” 处理"
        f"（{_looked_at(census).zh}）",
    )
    report.warn("H514", path, message, _line(census, found))


def _whom(census: Census) -> Words:
    codes, enum = census.coded.codes, census.coded.field.enum_type
    if codes is not None:
        return Words(f"code map {codes.name}", f"对照表 {codes.name}")
    name = enum.name if enum is not None else census.coded.field.name
    return Words(name, name)


def _line(census: Census, found: list[CodeCount]) -> Words:
    """The line for the first value, as it goes into the code map."""
    codes = census.coded.codes
    assert codes is not None
    enum = census.coded.field.enum_type
    values = list(contract.enum_numbers(enum)) if enum is not None else [str(pair.value) for pair in codes.pairs]
    choice = "|".join(dict.fromkeys(values))
    text = next((count.text for count in found if count.text), "…")
    line = f'{{ his = {json.dumps(text, ensure_ascii=False)}, is = "{choice}" }}'
    file = codes.document.file
    return Words(f"add to {file}: {line}", f"在 {file} 的 map 中补一行：{line}")


def _values(found: list[CodeCount]) -> str:
    shown = ", ".join(f"{count.shown}×{count.rows}" for count in found[:_LISTED])
    return shown + (f" … (+{len(found) - _LISTED})" if len(found) > _LISTED else "")


def _looked_at(census: Census) -> Words:
    if census.is_whole:
        return Words(f"of {census.rows} rows", f"共 {census.rows} 行")
    return Words(f"of {census.rows} rows, the newest by key", f"只看了主键最新的 {census.rows} 行")
