"""What a long run has shown so far, on disk after every case: it may be ended at any moment, and gone on with.

A file of JSON lines, one for each case and one for each thing that ended a scene. Several processes may write into one
file at once (of different scenes). A case is known by its engine, extent, seed and plan; the same seed makes the same
plans, so a run that goes on takes what is in the file and plays the rest.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tests.chaos.invariants import Finding, Kind

CASE: Final = "case"
DONE: Final = "done"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. ``what``: CASE, or DONE when a scene has been played to its end. ``plan``: of a case, unique in its scene.

    ``points``: how many the command has. ``commit``: of the code that was run; ``day``: when; ``load``: of the machine then.
    """

    what: str
    engine: str
    extent: str
    seed: int
    scene: str
    points: int
    plan: str = ""
    kills: int = 0
    unknown: int = 0
    reached: bool = True
    findings: tuple[tuple[str, str, str], ...] = ()
    commit: str = ""
    day: str = ""
    load: float = 0.0

    @property
    def series(self) -> tuple[str, str, str]:
        """Engine, extent and scene: a line of the table."""
        return self.engine, self.extent, self.scene

    @property
    def key(self) -> tuple[str, str, int, str, str]:
        """What makes it one case: another line with it is the same case, played again."""
        return self.engine, self.extent, self.seed, self.scene, f"{self.what} {self.plan}"

    def found(self) -> list[Finding]:
        """The findings of a case."""
        return [Finding(Kind(kind), invariant, text) for kind, invariant, text in self.findings]


@dataclass(slots=True)
class Journal:
    """A journal; ``path`` None: only in memory. ``commit``: of the code that is run now."""

    path: Path | None = None
    commit: str = ""
    _known: dict[tuple[str, str, int, str, str], Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is not None and self.path.exists():
            self._known = {entry.key: entry for entry in read_journal(self.path)}

    def known(self, like: Entry) -> Entry | None:
        """That case, when it was played before and nothing was found: what was found is played again."""
        entry = self._known.get(like.key)
        return None if entry is None or entry.findings else entry

    def has_finding(self, like: Entry) -> bool:
        """Whether something was found when that case was played last."""
        entry = self._known.get(like.key)
        return entry is not None and bool(entry.findings)

    def note(self, entry: Entry) -> Entry:
        """Keep it, with date and load; it is in the file when this returns (one write at the file's end, so that lines of
        other processes stay whole)."""
        entry = replace(entry, commit=self.commit, day=dt.date.today().isoformat(), load=round(os.getloadavg()[0], 1))
        self._known[entry.key] = entry
        if self.path is not None:
            line = json.dumps(asdict(entry), ensure_ascii=False) + "\n"
            out = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(out, line.encode())
            finally:
                os.close(out)
        return entry


def read_journal(path: Path) -> list[Entry]:
    """Every case once, as it was played last, in the order in which they were begun. A last line that was cut off is left
    out; any other that cannot be read raises ValueError."""
    entries: dict[tuple[str, str, int, str, str], Entry] = {}
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        fields: dict[str, Any] = json.loads(line)
        fields["findings"] = tuple(tuple(each) for each in fields["findings"])
        entry = Entry(**fields)
        entries[entry.key] = entry
    return list(entries.values())
