"""The routines of a sample's procedures, read from their text in either of two dialects: what each answers and writes.

Names are in lower case and without the owner; a variable (`v_s.zt`, `@zt`) is called as the column that it holds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

State = tuple[str, str, str]
_COMMENT = re.compile(r"--[^\n]*")
_NULL_IS_OTHER = re.compile(r"(?:nvl|coalesce|isnull)\(([\w.]+), '\w*'\) (<>|=)")
_STATE = re.compile(r"(\w+) (=|<>|in) (\d+|'[^']*'|\((?:'[^']*'(?:, )?)+\))")
_LENGTH = re.compile(r"(?<=char)\(\d+\)")
_LITERAL = re.compile(r"'[^']+'|(?<![\w.])\d+(?![\w.])")
_WRITE = re.compile(r"\b(insert into|update|delete from) (\w+)\s*(\((?:[^()]*)\))?([^;]*);")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer in the order of the text. `states`: columns compared with a literal since the answer before it."""

    text: str
    states: frozenset[State]


@dataclass(frozen=True, slots=True)
class Write:
    """One writing statement. `columns`: those that get a value; `states`: columns that get or are compared with a literal;
    of an INSERT the literals alone. `keys`: which column is compared how in its WHERE."""

    verb: str
    table: str
    columns: tuple[str, ...]
    states: frozenset[State]
    keys: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Routine:
    """`text` is in lower case, in one dialect's words."""

    name: str
    text: str

    def answers(self, pattern: re.Pattern[str], columns: Collection[str], skip: re.Pattern[str]) -> list[Answer]:
        """`pattern`: its groups are the texts (and codes) of an answer. `skip`: of answers that the other has not."""
        found: list[Answer] = []
        at = 0
        for match in pattern.finditer(self.text):
            text = " ".join(group for group in match.groups() if group)
            if not text or skip.search(text):
                continue
            found.append(Answer(text, states(self.text[at : match.start()], columns)))
            at = match.end()
        return found

    def writes(self, columns: Collection[str]) -> list[Write]:
        """INSERT, UPDATE and DELETE in their order."""
        return list(self._writes(columns))

    def _writes(self, columns: Collection[str]) -> Iterator[Write]:
        for verb, table, listed, rest in _WRITE.findall(self.text):
            if verb == "insert into":
                literals = frozenset(("", "", value) for value in _LITERAL.findall(_LENGTH.sub("", rest)))
                yield Write(verb, table, tuple(re.findall(r"\w+", listed)), literals)
            elif " set " in f" {rest}":
                sets, _, where = rest.split("set ", 1)[1].partition(" where ")
                plain = re.sub(r"\((?:[^()]|\([^()]*\))*\)", "()", sets)
                names = re.findall(r"(?:^|,)\s*(?:\w+ = )?(\w+) =", plain)
                yield Write(verb, table, tuple(names), states(rest, columns), _keys(where))
            elif verb == "delete from":
                yield Write(verb, table, (), states(rest, columns), _keys(rest))


def _keys(where: str) -> frozenset[tuple[str, str]]:
    return frozenset(re.findall(r"(?:^|[ (])(?:\w+\.)?(\w+) (=|<>|<=|>=|<|>) ", where))


def states(text: str, columns: Collection[str]) -> frozenset[State]:
    """Comparisons and assignments of one of these columns with a literal."""
    plain = _NULL_IS_OTHER.sub(r"\1 \2", text.replace("is distinct from", "<>"))
    return frozenset(found for found in _STATE.findall(plain) if found[0] in columns and found[2] != "''")


def routines(text: str, start: str, owners: Collection[str], inlined: Collection[str] = ()) -> dict[str, Routine]:
    """Each routine by its name. `start`: what stands before a name. `inlined`: those that are read where they are called."""
    plain = _COMMENT.sub("", text)
    found: dict[str, str] = {}
    for piece in re.split(start, plain)[1:]:
        body = piece.lower()
        for owner in owners:
            body = body.replace(f"{owner}.", "")
        body = re.sub(r"@|\b[pv]_(?=\w+\b(?! numeric| varchar))", "", body)
        name = re.match(r"\w+", piece.lower())
        assert name is not None
        found[name[0]] = re.sub(r"[ \n]+", " ", body)
    for look in inlined:
        body = found.pop(look)
        for other, text_of in found.items():
            found[other] = text_of.replace(f"{look}(", f"{body} (", 1)
    return {name: Routine(name, body) for name, body in found.items()}
