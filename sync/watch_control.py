"""What a person has said about a watch: pause, resume, reseed. Kept in the state store: it survives restarts and goes
with the work when another agent of the site takes it over.

*Pause*: the HIS is not read for this watch; what was captured before is delivered all the same. Nothing known of the
rows is changed, so the first look after *resume* finds what happened meanwhile. *Reseed*: positions of feeds and the
picture in memory are made anew, and the whole window is compared with what 160 was told; see ``Capture.reseed``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self


@dataclass(frozen=True, slots=True)
class WatchControl:
    """``by`` and ``since`` (ISO 8601) are of the pause or its end. ``reseed``: the reseed asked for last, ``reseeded``
    the one done last, ``result`` what it found (JSON)."""

    stream: str
    is_paused: bool = False
    note: str = ""
    by: str = ""
    since: str = ""
    reseed: str = ""
    reseeded: str = ""
    result: str = ""

    @property
    def waits(self) -> bool:
        """Whether a reseed was asked for and is not done."""
        return self.reseed != self.reseeded

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Fields that a newer agent has written are left out."""
        found: dict[str, Any] = json.loads(text)
        return cls(**{name: value for name, value in found.items() if name in cls.__dataclass_fields__})


class WatchControlTable(Protocol):
    """Controls by stream."""

    def get(self, stream: str) -> WatchControl | None: ...

    def all(self) -> Sequence[WatchControl]:
        """By name."""

    def put(self, control: WatchControl) -> None: ...
