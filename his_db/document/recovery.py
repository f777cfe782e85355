"""Reading on behind a syntax fault, so that one mistake does not hide the others.

A slip with one certain remedy (a full-width comma, a missing quote) is read as it was meant; any other faulty line is
left out, and the damage says what it belonged to. Only lines that stand alone: beyond others nothing is certain.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from his_db.document import syntax
from his_db.document.damage import LOST, Damage
from his_db.document.positions import TRIPLE_QUOTES, Path, Positions, scan
from his_db.document.problem import Problem

_MOST: Final = 20  # faults of one file
_HEADER: Final = re.compile(r"\s*\[")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_-]+)\s*[=:＝：]")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'')
_BARE: Final = re.compile(r"[^\s,\]}#\"'=]+")
_BACKSLASH: Final = re.compile(r"\\(?![\\\"])")
_PAIRS: Final = {"[": "]", "{": "}"}
# A key of a hundred parts: each part costs the parser as much as all before it, so that 100 kB of them take minutes.
_LONG_KEY: Final = re.compile(r"^[ \t]*\[{0,2}[ \t]*(?:[A-Za-z0-9_-]+[ \t]*\.[ \t]*){100}", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What could be read, with where it stands and what of it is damaged."""

    data: dict[str, Any]
    positions: Positions
    damage: Damage


def parse_on(text: str, file: str) -> tuple[Parsed | None, tuple[Problem, ...]]:
    """What `text` (line ends `\\n`) says but for its faulty lines, and every fault that was met.

    None instead of it when the text cannot be read beyond a fault.
    """
    long = _LONG_KEY.search(text)
    if long is not None:
        return None, (syntax.too_deep(file, text, long.start()),)
    lines = text.split("\n")
    problems: list[Problem] = []
    blanked: list[tuple[int, str]] = []
    last = -1
    while True:
        left = "\n".join(lines)
        try:
            data = tomllib.loads(left)
            found = scan(left)
        except tomllib.TOMLDecodeError as error:
            problem = syntax.explain(str(error), left, file)
        except RecursionError:
            return None, (*problems, syntax.too_deep(file, left))
        except ValueError:
            # Python refuses to convert an integer of more than 4,300 digits, and tomllib lets that through.
            problem = syntax.too_long_number(left, file)
        else:
            return Parsed(data, found, _damage(data, left, found, blanked)), tuple(problems)
        at = problem.place.line - 1
        if at <= last:
            return None, tuple(problems)  # it may be a consequence of what was changed
        last = at
        problems.append(problem)
        is_cut_off = at == len(lines) - 1  # half a file: what is missing is not missing
        if len(problems) == _MOST or is_cut_off or not _stands_alone(lines[at]):
            return None, tuple(problems)
        mended = _mended(lines, at, problem)
        if not mended:
            blanked.append((at, lines[at]))
        lines[at] = mended or " " * len(lines[at])


def _mended(lines: list[str], at: int, problem: Problem) -> str:
    """The line as it was meant: the first remedy with which the text can be read beyond it. Empty: there is none."""
    for candidate in _remedies(lines[at], problem):
        try:
            tomllib.loads("\n".join([*lines[:at], candidate, *lines[at + 1 :]]))
        except tomllib.TOMLDecodeError as error:
            if syntax.line_of(str(error), len(lines)) <= at + 1:
                continue
        except (RecursionError, ValueError):
            continue
        return candidate
    return ""


def _remedies(line: str, problem: Problem) -> Iterator[str]:
    column = problem.place.column - 1
    before, after = line[:column], line[column:]
    word = _BARE.match(after)
    match problem.code:
        case "H101":
            yield f"{before.rstrip()}, {after}"
        case "H107":
            yield _narrow(line)
            yield _narrow(f"{before}={after[1:]}")  # a full-width colon
        case "H108" | "H113" if word is not None and word.group().lower() not in syntax.NULLS:
            name = syntax.BOOLEANS.get(word.group().lower(), f'"{word.group()}"')
            yield before + name + after[word.end() :]
            begin = re.search(r"[^\s,\[{=]*$", before)  # the value begins before the place: 2026-13-01, 007
            yield (
                before[: begin.start() if begin else column]
                + f'"{begin[0] if begin else ""}{word.group()}"'
                + after[word.end() :]
            )
        case "H109":
            yield re.sub(r",(\s*)$", r"\1", before) + after
        case "H111":
            yield _BACKSLASH.sub(r"\\\\", line)


def _narrow(line: str) -> str:
    """Full-width quotes, commas and the like as ASCII, but for what stands inside ASCII quotes."""
    found: list[str] = []
    end = 0
    for match in _QUOTED.finditer(line):
        found += [_ascii(line[end : match.start()]), match.group()]
        end = match.end()
    return "".join([*found, _ascii(line[end:])])


def _ascii(text: str) -> str:
    return "".join(
        syntax.ASCII_OF.get(char)
        or (unicodedata.normalize("NFKC", char) if "\uff01" <= char <= "\uff5e" or char.isspace() else char)
        for char in text
    )


def _stands_alone(line: str) -> bool:
    """Whether the line neither begins nor ends anything that goes over several lines, nor opens a table."""
    if _HEADER.match(line) or any(quote in line for quote in TRIPLE_QUOTES):
        return False
    bare = _QUOTED.sub("", line).partition("#")[0]
    return all(bare.count(left) == bare.count(right) for left, right in _PAIRS.items())


def _damage(data: dict[str, Any], text: str, found: Positions, blanked: list[tuple[int, str]]) -> Damage:
    damage = Damage()
    for line, was in blanked:
        around = _around(data, text, found, found.lines.offset(line + 1, 1))
        key = _KEY.match(was)
        damage.add((*around[:-1], key[1]) if key is not None and around[-1] == LOST else around)
    return damage


def _around(data: dict[str, Any], text: str, found: Positions, offset: int) -> Path:
    """What a line that was left out belongs to: the text that goes on over it, else something of its table."""
    table: Path = ()
    begin = -1
    for path, at in found.values.items():
        if at >= offset:
            continue
        if text.startswith(TRIPLE_QUOTES, at) and text.find(text[at : at + 3], at + 3) >= offset:
            return path
        if text[at] == "[" and at > begin and isinstance(_value(data, path), dict):
            table, begin = path, at
    return (*table, LOST)


def _value(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data
