"""Reporting what is wrong in a mapping: the codes of this room (H2xx, H3xx) and a reporter bound to one document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from his_db.document.finding import NOTHING, Words, listed, nearest
from his_db.document.located import Document, Path
from his_db.document.problem import Place, Problem, Problems, Severity

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        # contract
        "H200": "a schema number that this version does not read",
        "H201": "no such operation in the contract",
        "H202": "the same operation, watch or code map in two files",
        "H203": "the kind does not fit the operation",
        "H204": "effect disagrees with the contract",
        "H205": "no such source in config.toml",
        "H206": "neither an operation, nor a watch, nor a code map",
        "H207": "no such field in the request",
        "H208": "no such field in the answer",
        "H209": "a required field is not mapped",
        "H210": "a field is mapped twice",
        "H211": "a conversion that does not fit the type of the field",
        "H212": "an amount without its unit, or a unit on what is no amount",
        "H213": "no such value of the enum",
        "H215": "no such code map",
        "H216": "a code map that says two things about one code",
        "H217": "no such reason in the contract",
        "H218": "a probe or answer that cannot be one",
        "H219": "where a value comes from is not said exactly once",
        "H220": "a parameter that nothing uses",
        "H221": "a bind without a value",
        "H222": "a value of the call that does not exist here",
        "H223": "a step that does not exist or comes later",
        "H224": "an outcome that is not clear",
        "H225": "a rule of a watch that cannot be read",
        "H226": "a watch that cannot work",
        "H227": "not a date format",
        "H228": "an SQL file that cannot be used",
        "H229": "paging that cannot work",
        "H230": "a result that does not fit the operation",
        "H231": "exactly one of sql and sql_file is needed",
        "H232": "not a name of a database object",
        "H233": "the kind does not fit the engine of the source",
        "H234": "a code map that does not say everything",
        "H235": "segments that cannot work",
        "H236": "hours or a schedule that cannot be read",
        "H237": "a test that cannot be run",
        "H238": "a template or path of a reply that cannot be used",
        "H239": "a test that failed",
        "H240": "options of a gateway that cannot work",
        "H241": "a set without an operation",
        "H242": "money goes back and nobody asks the HIS first",
        # secrets
        "H400": "a secret written into a mapping",
        # SQL
        "H300": "not exactly one statement",
        "H301": "a reading operation must only SELECT",
        "H302": "a writing operation that writes nothing",
        "H303": "UPDATE or DELETE without WHERE",
        "H304": "DDL, rights and sessions are no business of a mapping",
        "H305": "a procedure or function that a mapping must not call",
        "H306": "the statement could not be understood",
        "H307": "rows without an order",
        "H308": "a bind inside quotes is text, not a bind",
        "H309": "the statement does not give this column",
    }
)


# Code -> the parts of a file whose names it needs: with one of them lost, what seems to be missing may be unreadable.
_NEEDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "H209": ("result", "fields", "answer"),
        "H220": ("sql", "sql_file", "step", "diagnosis", "body", "path", "headers"),
        "H221": ("params",),
        "H223": ("step", "params"),
        "H225": ("fields",),
        "H226": ("fields", "event"),
        "H229": ("sql", "sql_file", "params"),
        "H230": ("params", "step"),
        "H237": ("step", "params", "fields"),
        "H302": ("step",),
    }
)


# Code -> keys of the table that a finding is about, when it is about the table as a whole.
_ABOUT: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "H219": ("column", "const", "date_column", "time_column", "from", "step", "dir", "type"),
        "H224": ("is", "text", "outcome"),
        "H230": ("result", "answer", "into", "rows"),
        "H231": ("sql", "sql_file"),
        "H235": ("minutes", "count"),
        "H237": ("before", "after", "event", "expect"),
        "H238": ("body", "method"),
    }
)


@dataclass(frozen=True, slots=True)
class Reporter:
    """Reports about one document. `base`: the table that is looked at as if it were a file (a report among several).

    What the document's damage already says, or cannot let anybody know, is not reported.
    """

    document: Document
    problems: Problems
    base: Path = ()

    def value(self, code: str, path: Path, message: Words, fix: Words = NOTHING) -> None:
        """An error about the value at `path`."""
        self._report(self.document.value_place(path), code, path, message, fix)

    def key(self, code: str, path: Path, message: Words, fix: Words = NOTHING) -> None:
        """An error about the key or header at `path`."""
        self._report(self.document.place(path), code, path, message, fix)

    def warn(self, code: str, path: Path, message: Words, fix: Words = NOTHING) -> None:
        """A warning about the value at `path`."""
        self._report(self.document.value_place(path), code, path, message, fix, Severity.WARNING)

    def _report(
        self, place: Place, code: str, path: Path, message: Words, fix: Words, severity: Severity = Severity.ERROR
    ) -> None:
        damage = self.document.damage
        if damage and (
            damage.hides(path, _ABOUT.get(code, ()))
            or any(damage.loses((*self.base, area)) for area in _NEEDS.get(code, ()))
        ):
            return
        self.problems.add(Problem(place, code, message.en, message.zh, fix.en, fix.zh, severity))


def did_you_mean(word: str, names: Iterable[str]) -> Words:
    """`did you mean "x"?`, or the list of what there is."""
    known = tuple(sorted(names) if isinstance(names, Set) else names)
    close = nearest(word, known)
    if close:
        return Words(f'did you mean "{close}"?', f"是否想写 “{close}”？")
    if not known:
        return Words("", "")
    return Words(f"known here: {listed(known)}", f"可用的有：{listed(known)}")
