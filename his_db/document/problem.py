"""What is wrong, where, and what to do about it: the record every check of a document reports with.

Codes are listed in `his_db.document.problem_codes`. Messages exist in English and in Chinese, because the reader is a
hospital's DBA and the maintainer is not.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import total_ordering
from typing import Final, overload

LANGS: Final = ("zh", "en", "both")
_INDENT: Final = "    "


class Severity(enum.Enum):
    """ERROR: the document cannot be used. WARNING: it can, but somebody should look."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in a file; line and column are 1-based, the column counts characters (not bytes, not screen cells)."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@total_ordering
@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. Ordered by place, then code, then message; equality looks at every field."""

    place: Place
    code: str
    message: str
    message_zh: str
    fix: str = ""
    fix_zh: str = ""
    severity: Severity = Severity.ERROR

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Problem):
            return NotImplemented
        return self._order() < other._order()

    def _order(self) -> tuple[Place, str, str, str, str, str, str]:
        # Every field, so that `<` and `==` never disagree.
        texts = (self.code, self.message, self.message_zh, self.fix, self.fix_zh, self.severity.value)
        return (self.place, *texts)

    def render(self, lang: str = "both") -> str:
        """The problem as text: `file:line:column: error H101: message`, then indented lines with the fix.

        `lang` is "zh", "en" or "both" (Chinese first, the English below); ValueError for anything else.
        Control characters that came from the file are escaped: this text goes to terminals and logs.
        """
        _check_lang(lang)
        head = f"{self.place}: {self.severity.value} {self.code}: "
        zh = self.message_zh or self.message
        lines = [head + (self.message if lang == "en" else zh)]
        if lang == "both" and self.message and self.message != zh:
            lines.append(self.message)
        if lang != "en" and self.fix_zh:
            lines.append(f"修复: {self.fix_zh}")
        if self.fix and (lang != "zh" or not self.fix_zh):
            lines.append(f"fix: {self.fix}")
        return f"\n{_INDENT}".join(_printable(line) for line in lines)


class Problems:
    """A collector. True when it holds at least one error: warnings alone leave it False (see `len`)."""

    __slots__ = ("_found",)

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        self._found: list[Problem] = list(problems)

    @overload
    def add(self, problem: Problem, /) -> None: ...

    @overload
    def add(
        self,
        place: Place,
        /,
        code: str,
        message: str,
        message_zh: str,
        fix: str = ...,
        fix_zh: str = ...,
        severity: Severity = ...,
    ) -> None: ...

    def add(
        self,
        problem: Problem | Place,
        /,
        code: str = "",
        message: str = "",
        message_zh: str = "",
        fix: str = "",
        fix_zh: str = "",
        severity: Severity = Severity.ERROR,
    ) -> None:
        """Keep a problem: either the record, or a place and the other fields of `Problem` in their order."""
        if isinstance(problem, Place):
            problem = Problem(problem, code, message, message_zh, fix, fix_zh, severity)
        self._found.append(problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Keep each of `problems` (another collector will do)."""
        self._found.extend(problems)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The errors, by place."""
        return tuple(problem for problem in self.sorted() if problem.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The warnings, by place."""
        return tuple(problem for problem in self.sorted() if problem.severity is Severity.WARNING)

    def sorted(self) -> tuple[Problem, ...]:
        """Everything found, by place."""
        return tuple(sorted(self._found))

    def render(self, lang: str = "both") -> str:
        """Every problem, by place, one after another; empty when there is none. ValueError for an unknown `lang`."""
        _check_lang(lang)
        return "\n".join(problem.render(lang) for problem in self.sorted())

    def __bool__(self) -> bool:
        return any(problem.severity is Severity.ERROR for problem in self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Problem]:
        return iter(tuple(self._found))

    def __repr__(self) -> str:
        return f"Problems({self._found!r})"


class DocumentError(Exception):
    """A document cannot be used. Carries every problem found so far, by place; `str()` renders them all."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(problems))
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(problem.render() for problem in self.problems)


def _check_lang(lang: str) -> None:
    if lang not in LANGS:
        raise ValueError(f"lang must be one of {', '.join(LANGS)}, not {lang!r}")


def _printable(line: str) -> str:
    """`line` on one line: line breaks become spaces, other characters that do not print are escaped."""
    flat = line.replace("\r\n", " ").replace("\n", " ")
    if flat.isprintable():
        return flat
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in flat)
