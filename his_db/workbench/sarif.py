"""Problems as SARIF 2.1.0 (OASIS), which code hosts and editors show beside the line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from his_db.document import problem_codes
from his_db.document.problem import Problem, Problems, Severity
from his_db.mapping import finding
from his_db.workbench import codes

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
RULES: Final[Mapping[str, str]] = {**problem_codes.CODES, **finding.CODES, **codes.CODES}


def sarif(problems: Problems, version: str, folder: str, about: Mapping[str, object] | None = None) -> dict[str, Any]:
    """One run. `folder` is where the files of the places are; `about`: which set that is."""
    used = sorted({problem.code for problem in problems})
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "his160",
                        "version": version,
                        "rules": [{"id": code, "shortDescription": {"text": RULES.get(code, code)}} for code in used],
                    }
                },
                "originalUriBaseIds": {"MAPPING": {"description": {"text": folder}}},
                "properties": {"mappings": dict(about or {})},
                "columnKind": "unicodeCodePoints",
                "results": [_result(problem, used) for problem in problems.sorted()],
            }
        ],
    }


def _result(problem: Problem, rules: list[str]) -> dict[str, Any]:
    text = f"{problem.message_zh}\n{problem.message}"
    for fix in (problem.fix_zh, problem.fix):
        text += f"\n{fix}" if fix else ""
    found: dict[str, Any] = {
        "ruleId": problem.code,
        "ruleIndex": rules.index(problem.code),
        "level": "error" if problem.severity is Severity.ERROR else "warning",
        "message": {"text": text},
    }
    if not problem.place.file.startswith("["):  # a source of config.toml has no file here
        found["locations"] = [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(problem.place.file.replace("\\", "/")), "uriBaseId": "MAPPING"},
                    "region": {"startLine": problem.place.line, "startColumn": problem.place.column},
                }
            }
        ]
    return found
