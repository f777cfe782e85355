"""The doctor's words: for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.console import both
from agent.doctor.examine import Examined, exit_code
from agent.doctor.finding import Finding
from agent.doctor.registry import AREAS
from his_db.document.problem import Severity

_MARKS = {Severity.ERROR: ("错误", "ERROR"), Severity.WARNING: ("注意", "note")}
_INDENT = "        "


def heading(area: str, lang: str) -> str:
    """The line above an area's checks."""
    entry = AREAS[area]
    return f"{_chosen(entry.zh, entry.en, lang)} ({area})"


def lines_of(result: Examined, lang: str) -> list[str]:
    """One check as text."""
    lines = [f"{_mark('正常', 'ok', lang)} {_chosen(fact.zh, fact.en, lang)}" for fact in result.findings.facts]
    for finding in result.findings.found:
        lines += _finding(finding, lang)
    return [_flat(line) for line in lines]


def summary(results: Sequence[Examined], lang: str) -> str:
    """The last line."""
    errors, warnings = counts(results)
    if not errors and not warnings:
        return _chosen("没有发现问题", "nothing is wrong", lang)
    return _chosen(f"错误 {errors}，注意 {warnings}", f"{errors} errors, {warnings} notes", lang)


def counts(results: Sequence[Examined]) -> tuple[int, int]:
    """Errors and warnings."""
    found = [finding.severity for result in results for finding in result.findings.found]
    return found.count(Severity.ERROR), found.count(Severity.WARNING)


def as_json(context_file: str, results: Sequence[Examined]) -> dict[str, Any]:
    """The same for programs."""
    errors, warnings = counts(results)
    return {
        "config": context_file,
        "exit_code": exit_code(results),
        "errors": errors,
        "warnings": warnings,
        "checks": [
            {
                "area": result.area,
                "name": result.name,
                "seconds": round(result.seconds, 3),
                "facts": [{"zh": fact.zh, "en": fact.en} for fact in result.findings.facts],
                "findings": [_as_json(finding) for finding in result.findings.found],
            }
            for result in results
        ],
    }


def _as_json(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "where": finding.where,
        "message": finding.en,
        "message_zh": finding.zh,
        "fix": finding.fix_en,
        "fix_zh": finding.fix_zh,
    }


def _finding(finding: Finding, lang: str) -> list[str]:
    zh, en = _MARKS[finding.severity]
    head = f"{_mark(zh, en, lang)} {finding.code} {finding.where}: "
    lines = [head + (finding.en if lang == "en" else finding.zh)]
    if lang == "both" and finding.en != finding.zh:
        lines.append(_INDENT + finding.en)
    if lang != "en" and finding.fix_zh:
        lines.append(f"{_INDENT}修复: {finding.fix_zh}")
    if lang != "zh" and finding.fix_en:
        lines.append(f"{_INDENT}fix: {finding.fix_en}")
    return lines


def _chosen(zh: str, en: str, lang: str) -> str:
    return {"zh": zh, "en": en or zh}.get(lang) or both(zh, en)


def _mark(zh: str, en: str, lang: str) -> str:
    words = {"zh": zh, "en": en}.get(lang, f"{zh} {en}")
    return f"  [{words}]"


def _flat(text: str) -> str:
    """A server's or a file's words must not break the lines of ours."""
    return "".join(char if char.isprintable() else " " for char in text)
