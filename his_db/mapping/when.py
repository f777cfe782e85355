"""`when` of a watch's rule: `field: before -> after`, each side a `|` list of values; compiled into a test."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from his_db import contract
from his_db.mapping.paths import resolve, sort_of

ANY: Final = "*"
NEW: Final = "new"
GONE: Final = "gone"
_RULE: Final = re.compile(r"\s*(?P<field>\w+)\s*:\s*(?P<before>.+?)\s*->\s*(?P<after>.+?)\s*")

Test = Callable[[Message | None, Message | None], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """`state: LOCKED|BOOKED -> CANCELLED`. `new` may stand on the left, `gone` on the right, `*` on both."""

    field: str
    before: frozenset[str]
    after: frozenset[str]


def parse_rule(text: str) -> Rule | None:
    """The rule in `text`; None when it has not the form."""
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


def values_of(rule: Rule) -> frozenset[str]:
    """The values that the rule names, without `*`, `new` and `gone`."""
    return (rule.before | rule.after) - {ANY, NEW, GONE}


def compile_rule(rule: Rule, descriptor: Descriptor) -> Test:
    """A test (before, after). It must have passed the check (ValueError otherwise).

    A rule fits a change only: a value that stays the same never fits, except that the row is new or gone.
    """
    path = resolve(descriptor, rule.field)
    if path is None or len(path) != 1:
        raise ValueError(f"no such field: {rule.field}")
    read = _reader(path[0].name, path[0].enum_type, sort_of(path[0]))
    before, after = rule.before, rule.after

    def test(old: Message | None, new: Message | None) -> bool:
        if old is None:
            return new is not None and NEW in before and (ANY in after or read(new) in after)
        if new is None:
            return GONE in after and (ANY in before or read(old) in before)
        was, now = read(old), read(new)
        return bool(was != now and (ANY in before or was in before) and (ANY in after or now in after))

    return test


def _reader(name: str, enum: Any, sort: str) -> Callable[[Message], Any]:
    if sort == "enum":
        names: Mapping[int, str] = contract.enum_names(enum)
        return lambda message: names.get(getattr(message, name), "UNSPECIFIED")
    if sort in {"text", "int", "money"}:
        return lambda message: str(getattr(message, name))
    if sort == "bool":
        return lambda message: "true" if getattr(message, name) else "false"
    return lambda message: (
        getattr(message, name).SerializeToString(deterministic=True) if message.HasField(name) else b""
    )
