"""What a check of the doctor saw: facts that are good to know, findings with their fix. Both languages, no secrets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from his_db.document.problem import Problem, Severity


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is as it should be."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not. ``where``: section, file or place; ``is_configuration``: the agent would not start."""

    code: str
    where: str
    zh: str
    en: str
    fix_zh: str
    fix_en: str
    severity: Severity = Severity.ERROR
    is_configuration: bool = False


@dataclass(slots=True)
class Findings:
    """Collects what one check sees."""

    facts: list[Fact] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)

    def good(self, zh: str, en: str) -> None:
        """Keep a fact."""
        self.facts.append(Fact(zh, en))

    def wrong(self, code: str, where: str, zh: str, en: str, fix_zh: str, fix_en: str) -> None:
        """Keep an error."""
        self.found.append(Finding(code, where, zh, en, fix_zh, fix_en))

    def warn(self, code: str, where: str, zh: str, en: str, fix_zh: str, fix_en: str) -> None:
        """Keep what somebody should look at."""
        self.found.append(Finding(code, where, zh, en, fix_zh, fix_en, Severity.WARNING))

    def take(self, problems: Iterable[Problem], *, is_configuration: bool = False) -> None:
        """Keep what another check of the house has found."""
        for problem in problems:
            place = problem.place
            # A source as a whole has no line.
            where = place.file if place.file.startswith("[") else str(place)
            self.found.append(
                Finding(
                    problem.code,
                    where,
                    problem.message_zh or problem.message,
                    problem.message,
                    problem.fix_zh,
                    problem.fix,
                    problem.severity,
                    is_configuration and problem.severity is Severity.ERROR,
                )
            )
