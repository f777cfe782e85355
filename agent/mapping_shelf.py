"""Copies of the mapping set beside the state store: the candidate as it was read, the last good one, what was refused.

``<state>/mappings/last-good/`` is what the agent starts with when the folder is broken. A candidate is loaded from its
copy, so what is checked, tried, switched to and kept is one and the same, whoever goes on typing.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from agent.mapping_watch import set_files
from his_db.document.problem import Problem
from his_db.move import move

_LOG: Final = logging.getLogger(__name__)
_NOTE: Final = "last-good.json"
_REFUSED: Final = "refused.txt"
_MAX_BYTES: Final = 2_000_000  # of a larger file, which the loader refuses all the same


class MappingShelf:
    """``folder``: ``<state>/mappings``. Trouble with the disk is logged and never stops the agent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._candidate = folder / f"candidate-{os.getpid()}"
        self._last_good = folder / "last-good"

    @property
    def refused_file(self) -> Path:
        """The problems of a refused candidate, for ``his160 status``."""
        return self._folder / _REFUSED

    def take(self, origin: Path) -> Path:
        """A copy of the set in ``origin``; ``origin`` itself when it cannot be copied whole."""
        if not origin.is_dir():
            return origin
        try:
            _remove(self._candidate)
            self._candidate.mkdir(parents=True)
            for path in set_files(origin):
                target = self._candidate / path.relative_to(origin)
                target.parent.mkdir(parents=True, exist_ok=True)
                with path.open("rb") as file:
                    target.write_bytes(file.read(_MAX_BYTES))
        except OSError as error:  # a file that is locked, unreadable or gone meanwhile: the loader says which
            _LOG.debug("no copy of the mappings: %s", error.strerror or type(error).__name__)
            return origin
        return self._candidate

    def keep(self, origin: Path, taken: Path, revision: str, now: datetime) -> None:
        """Make the copy that ``take`` returned the last good set."""
        if taken != self._candidate:
            return  # nothing was copied
        former = self._folder / "last-good.old"
        try:
            for path in self._candidate.rglob("*"):
                if path.is_file():
                    _sync(path)
            _remove(former)
            if self._last_good.exists():
                move(self._last_good, former)
            move(self._candidate, self._last_good)
            note = {"revision": revision, "origin": str(origin.absolute()), "time": now.isoformat()}
            write_whole(self._folder / _NOTE, json.dumps(note, ensure_ascii=False))
            _remove(former)
        except OSError as error:
            _LOG.warning("the last good mappings cannot be kept: %s", error.strerror or type(error).__name__)

    def kept(self) -> tuple[Path, Path]:
        """Where the set that runs is, as a rule: the last good one, and while it is being replaced its former place."""
        return self._last_good, self._folder / "last-good.old"

    def last_good(self, origin: Path) -> Path | None:
        """The last good set that came from ``origin``; None when there is none."""
        if self._note().get("origin") != str(origin.absolute()):
            return None  # the configuration names another folder now: an old set must not answer for it
        for folder in self.kept():
            if folder.is_dir():
                return folder
        return None

    def last_revision(self) -> str:
        """The revision that the agent runs, or ran last; empty when none is known."""
        return str(self._note().get("revision", ""))

    def _note(self) -> dict[str, Any]:
        try:
            note = json.loads((self._folder / _NOTE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def tell_refused(self, problems: Sequence[Problem], now: datetime) -> None:
        """Write all problems down, Chinese and English; none: forget them."""
        try:
            if not problems:
                self.refused_file.unlink(missing_ok=True)
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            head = f"{now.astimezone().isoformat(timespec='seconds')} {len(problems)}\n"
            write_whole(self.refused_file, head + "\n".join(problem.render() for problem in problems) + "\n")
        except OSError as error:
            _LOG.warning("refused mappings cannot be written down: %s", error.strerror or type(error).__name__)

    def tidy(self) -> None:
        """Remove what this process, or one that crashed, left behind. Only for the owner of the state store."""
        for path in self._folder.glob("candidate-*"):
            _remove(path)


def shelf_folder(state: Path) -> Path:
    """Where the copies are, by the path of the state store."""
    return state.parent / "mappings"


def write_whole(path: Path, content: str) -> None:
    """Replace a file in one step: a reader sees the old or the new one. Raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    move(part, path)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
