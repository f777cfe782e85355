"""The words of a shape check: where it is, what was found there, and the nearest name that was perhaps meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from typing import Final, NamedTuple

from his_db.document.damage import Damage
from his_db.document.located import Document, Path
from his_db.document.problem import Place, Problem, Problems

_SHOWN: Final = 60  # characters of a value
_LISTED: Final = 15  # names in a list of names


class Words(NamedTuple):
    """The same thing said in English and in Chinese."""

    en: str
    zh: str


NOTHING: Final = Words("", "")


class Outer(NamedTuple):
    """A table around the place: its path, and the keys it knows but does not have."""

    path: Path
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class At:
    """A place in a document under check, and the collector of what is found there."""

    document: Document
    problems: Problems
    path: Path = ()
    secret: bool = False  # values here must not be repeated in messages
    outer: tuple[Outer, ...] = ()  # the tables around, outermost first
    damage: Damage = field(default_factory=Damage)
    blanks: bool = False  # what is bad or missing is replaced by a blank, so that the rest can be read

    def child(self, key: str | int, *, secret: bool = False, outer: Outer | None = None) -> At:
        around = self.outer if outer is None else (*self.outer, outer)
        return replace(self, path=(*self.path, key), secret=self.secret or secret, outer=around)

    def scratch(self) -> At:
        """The same place with collectors of its own, for trying an alternative."""
        return replace(self, problems=Problems(), damage=Damage())

    def key(self, code: str, message: Words, fix: Words = NOTHING) -> None:
        """Report about the key here (for a table: its header)."""
        self._report(self.document.place(self.path), code, message, fix)

    def value(self, code: str, message: Words, fix: Words = NOTHING) -> None:
        """Report about the value here."""
        self._report(self.document.value_place(self.path), code, message, fix)

    def _report(self, place: Place, code: str, message: Words, fix: Words) -> None:
        if not self.damage.hides(self.path):  # a line that could not be read, or a key that is there twice
            self.problems.add(Problem(place, code, message.en, message.zh, fix.en, fix.zh))

    def found(self, value: object) -> Words:
        """`value` with its type, or its type alone where values are secret."""
        words = type_words(value)
        if self.secret or isinstance(value, (list, dict)):
            return words
        shown = show(value)
        return Words(f"{words.en} {shown}", f"{words.zh} {shown}")

    def quoted(self, text: str) -> Words:
        """A text as such, or a word for it where values are secret."""
        return Words("this text", "这里的文本") if self.secret else Words(show(text), show(text))

    def name(self) -> str:
        """The path as the header of a table names it, without indexes: `result.fields`."""
        return ".".join(clip(part) for part in self.path if isinstance(part, str))


def type_words(value: object) -> Words:
    """The type of a TOML value in the words of a DBA."""
    # bool before int and datetime before date: the one is a subclass of the other.
    for kind, words in (
        (bool, Words("the boolean", "布尔值")),
        (int, Words("the integer", "整数")),
        (float, Words("the decimal number", "小数")),
        (str, Words("the text", "文本")),
        (datetime, Words("the date and time", "日期时间")),
        (date, Words("the date", "日期")),
        (time, Words("the time", "时间")),
        (list, Words("a list", "列表")),
        (dict, Words("a table", "表（名称与值的集合）")),
    ):
        if isinstance(value, kind):
            return words
    return Words(type(value).__name__, type(value).__name__)


def show(value: object) -> str:
    """A scalar as TOML writes it, shortened. Control characters are escaped when the problem is rendered."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{clip(value)}"'
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return "…"  # Python refuses to print integers of several thousand digits.
    return str(value)


def clip(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def listed(names: Collection[str], *, quote: bool = False) -> str:
    """`names`, shortened, separated so that both languages can use it."""
    shown = [show(name) if quote else clip(name) for name in names][:_LISTED]
    return ", ".join(shown) + (", …" if len(names) > _LISTED else "")


def nearest(word: str, names: Iterable[str]) -> str:
    """The name that was perhaps meant by `word`; empty when none is close. Case and `-` for `_` do not count."""
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(_fold(name), name)
    close = difflib.get_close_matches(_fold(clip(word)), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else ""


def alternatives(words: Iterable[Words]) -> Words:
    """`a, b or c`, each thing named once."""
    unique = list(dict.fromkeys(words))
    if len(unique) == 1:
        return unique[0]
    en = [word.en for word in unique]
    return Words(f"{', '.join(en[:-1])} or {en[-1]}", "或".join(word.zh for word in unique))


def _fold(name: str) -> str:
    return name.casefold().replace("-", "_").strip()
