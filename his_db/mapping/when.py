"""`when` of a watch's rule: conditions joined by `and`, compiled into a test of a row before and after.

state: LOCKED|BOOKED -> CANCELLED                         a change
state: BOOKED -> CANCELLED and operator_id not in platform_operators
doctor_id: * -> * and state = PAID|BOOKED                 a change, and what is so afterwards
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from his_db import contract
from his_db.mapping.paths import resolve, sort_of

ANY: Final = "*"
NEW: Final = "new"
GONE: Final = "gone"
PLATFORM: Final = "platform_operators"
_RULE: Final = re.compile(r"\s*(?P<field>[\w.]+)\s*:\s*(?P<before>.+?)\s*->\s*(?P<after>.+?)\s*")
_FACT: Final = re.compile(r"\s*(?P<field>[\w.]+)\s*(?P<sign>!=|=)\s*(?P<values>[^=].*?)\s*")
_AMONG: Final = re.compile(r"\s*(?P<field>[\w.]+)\s+(?P<negated>not\s+)?in\s+platform_operators\s*")
_AND: Final = re.compile(r"\s+and\s+")

Test = Callable[[Message | None, Message | None], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """A change: `state: LOCKED|BOOKED -> CANCELLED`. `new` may stand left, `gone` right, `*` on both sides."""

    field: str
    before: frozenset[str]
    after: frozenset[str]


@dataclass(frozen=True, slots=True)
class Fact:
    """What is so after the change (before it, for a row that is gone): `state = A|B`, `note != ""`."""

    field: str
    values: frozenset[str]
    negated: bool


@dataclass(frozen=True, slots=True)
class Among:
    """Whether a field names one of the platform's operators: `operator_id in platform_operators`."""

    field: str
    negated: bool


Condition = Rule | Fact | Among


def parse_when(text: str) -> tuple[Condition, ...] | None:
    """The conditions in `text`; None when one cannot be read or none of them is a change."""
    found: list[Condition] = []
    for part in _AND.split(text):
        condition = _condition(part)
        if condition is None:
            return None
        found.append(condition)
    return tuple(found) if any(isinstance(item, Rule) for item in found) else None


def _condition(text: str) -> Condition | None:
    if _RULE.fullmatch(text) is not None:
        return parse_rule(text)
    among = _AMONG.fullmatch(text)
    if among is not None:
        return Among(among["field"], among["negated"] is not None)
    fact = _FACT.fullmatch(text)
    if fact is None:
        return None
    values = _side(fact["values"])
    return Fact(fact["field"], values, fact["sign"] == "!=") if values and not values & {ANY, NEW, GONE} else None


def parse_rule(text: str) -> Rule | None:
    """The change in `text`; None when it has not the form."""
    match = _RULE.fullmatch(text)
    if match is None:
        return None
    before, after = _side(match["before"]), _side(match["after"])
    if not before or not after or GONE in before or NEW in after:
        return None
    return Rule(match["field"], before, after)


def _side(text: str) -> frozenset[str]:
    parts = [part.strip() for part in text.split("|")]
    if not all(parts):
        return frozenset()
    return frozenset("" if part in {'""', "''"} else part for part in parts)


def values_of(condition: Condition) -> frozenset[str]:
    """The values that the condition names, without `*`, `new` and `gone`."""
    if isinstance(condition, Rule):
        return (condition.before | condition.after) - {ANY, NEW, GONE}
    return condition.values if isinstance(condition, Fact) else frozenset()


def compile_when(conditions: tuple[Condition, ...], descriptor: Descriptor, operators: frozenset[str]) -> Test:
    """A test (before, after): every condition holds. They must have passed the check (ValueError otherwise)."""
    tests = tuple(_compile(condition, descriptor, operators) for condition in conditions)
    if len(tests) == 1:
        return tests[0]
    return lambda before, after: all(test(before, after) for test in tests)


def _compile(condition: Condition, descriptor: Descriptor, operators: frozenset[str]) -> Test:
    if isinstance(condition, Rule):
        return compile_rule(condition, descriptor)
    read = _reader(condition.field, descriptor)
    values = operators if isinstance(condition, Among) else condition.values
    negated = condition.negated

    def test(old: Message | None, new: Message | None) -> bool:
        message = new if new is not None else old
        return message is not None and (read(message) in values) != negated

    return test


def compile_rule(rule: Rule, descriptor: Descriptor) -> Test:
    """A test (before, after). It must have passed the check (ValueError otherwise).

    A rule fits a change only: a value that stays the same never fits, except that the row is new or gone.
    """
    read = _reader(rule.field, descriptor)
    before, after = rule.before, rule.after

    def test(old: Message | None, new: Message | None) -> bool:
        if old is None:
            return new is not None and NEW in before and (ANY in after or read(new) in after)
        if new is None:
            return GONE in after and (ANY in before or read(old) in before)
        was, now = read(old), read(new)
        return bool(was != now and (ANY in before or was in before) and (ANY in after or now in after))

    path = resolve(descriptor, rule.field) or ()
    return _by_number(path[0].name, test) if len(path) == 1 and sort_of(path[0]) == "enum" else test


def _by_number(name: str, test: Test) -> Test:
    """A test of one enum field, that remembers what it has said of two numbers: there are few, and every rule is asked
    of each changed row, for which finding the names of both would take most of the time."""
    read = attrgetter(name)
    fits: dict[tuple[int, int], bool] = {}

    def known(old: Message | None, new: Message | None) -> bool:
        if old is None or new is None:
            return test(old, new)
        step = (read(old), read(new))
        found = fits.get(step)
        if found is None:
            found = fits[step] = test(old, new)
        return found

    return known


def _reader(field: str, descriptor: Descriptor) -> Callable[[Message], Any]:
    path = resolve(descriptor, field)
    if path is None:
        raise ValueError(f"no such field: {field}")
    *outer, last = path
    read = _last_reader(last.name, last.enum_type, sort_of(last))
    if not outer:
        return read

    def deep(message: Message) -> Any:
        for step in outer:
            message = getattr(message, step.name)
        return read(message)

    return deep


def _last_reader(name: str, enum: Any, sort: str) -> Callable[[Message], Any]:
    if sort == "enum":
        names: Mapping[int, str] = contract.enum_names(enum)
        return lambda message: names.get(getattr(message, name), "UNSPECIFIED")
    if sort in {"text", "int", "money"}:
        return lambda message: str(getattr(message, name))
    if sort == "bool":
        return lambda message: "true" if getattr(message, name) else "false"
    if sort == "date":
        return lambda message: _day(getattr(message, name)) if message.HasField(name) else ""
    return lambda message: (
        getattr(message, name).SerializeToString(deterministic=True) if message.HasField(name) else b""
    )


def _day(value: Any) -> str:
    return f"{value.year:04}-{value.month:02}-{value.day:02}"
