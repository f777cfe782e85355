"""One generation: a mapping set compiled once, ready to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.message import Message

from his_db.mapping.load import MappingSet


@dataclass(frozen=True, slots=True)
class Capability:
    operation: str
    available: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class CompiledOperation:
    name: str
    source: str
    is_read: bool
    timeout: timedelta | None
    probe: str | None


@dataclass(frozen=True, slots=True)
class EventRule:
    kind: int
    occurred: str | None

    def matches(self, before: Message | None, after: Message | None) -> bool:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class CompiledWatch:
    name: str
    source: str
    subject: str
    message_class: type[Message]
    poll: timedelta | None
    platform_operators: frozenset[str]
    vanish: str
    rules: tuple[EventRule, ...]
    build: Callable[[tuple[Any, ...]], Message]

    def window_contains(self, message: Message, now: datetime) -> bool:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Generation:
    revision: str
    operations: Mapping[str, CompiledOperation]
    watches: Mapping[str, CompiledWatch]

    def capabilities(self) -> tuple[Capability, ...]:
        raise NotImplementedError


def compile_generation(mapping_set: MappingSet) -> Generation:
    raise NotImplementedError
