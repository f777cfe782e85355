"""Running one canonical operation of the current generation against its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from his_db.generation import CompiledWatch, Generation


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a watch sees now: key text and raw row of each row, and when it was read (aware, site's zone)."""

    rows: list[tuple[str, tuple[Any, ...]]]
    now: datetime
    refused: int = 0


class HisAccess:
    def __init__(
        self, sources: Mapping[str, Any], generation: Generation, *, clock: Callable[[], datetime] | None = None
    ) -> None:
        self._generation = generation

    @property
    def generation(self) -> Generation:
        return self._generation

    @generation.setter
    def generation(self, generation: Generation) -> None:
        self._generation = generation

    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message:
        raise NotImplementedError

    async def write(self, operation: str, request: Message, *, key: str, deadline: float | None = None) -> Message:
        raise NotImplementedError

    def watch_names(self) -> tuple[str, ...]:
        raise NotImplementedError

    def watch(self, name: str) -> CompiledWatch:
        raise NotImplementedError

    async def snapshot(self, name: str) -> Snapshot:
        raise NotImplementedError
