"""A folder of mapping files -> a generation: checked in another process, compiled here, unchanged files taken over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from agent.mapping_check import MappingCheck
from his_db.document.problem import DocumentError, Place, Problem
from his_db.generation import Former, Generation, compile_generation, former_of
from his_db.mapping.known_files import KnownFiles
from his_db.mapping.load import MappingSet, load_mapping_set

_WARM: Final = timedelta(seconds=60)  # whoever saves once saves again soon; then nobody edits for months


class MappingCompiler:
    """Call it in a thread, one call at a time. ``warm``: how long the check's process and what was read are kept.

    ``agrees``: raises DocumentError for a set that does not fit the configuration.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        timezone: str,
        *,
        check: MappingCheck | None = None,
        warm: timedelta = _WARM,
        agrees: Callable[[MappingSet], None] = lambda _: None,
    ) -> None:
        self._sources = dict(sources)
        self._timezone = timezone
        self._check = check or MappingCheck(sources, timezone)
        self._warm = warm.total_seconds()
        self._agrees = agrees
        self._lock = threading.Lock()
        self._rest: threading.Timer | None = None
        self._known = KnownFiles()
        self._former: Former | None = None

    def __call__(self, folder: Path) -> Generation:
        """The generation of the set in ``folder``. Raises DocumentError."""
        with self._lock:
            if self._rest is not None:
                self._rest.cancel()
            try:
                return self._compiled(folder, self._check.check(folder))
            finally:
                self._rest = threading.Timer(self._warm, self.cool)
                self._rest.daemon = True
                self._rest.start()

    def cool(self) -> None:
        """Nobody edits: give back the process of the check and the files that were read."""
        with self._lock:
            self._check.rest()
            self._known = KnownFiles()

    def close(self) -> None:
        """Compile no more; a call under way fails soon."""
        self._check.close()
        if self._rest is not None:
            self._rest.cancel()

    def _compiled(self, folder: Path, revision: str) -> Generation:
        mappings = load_mapping_set(
            folder, sources=self._sources, timezone=self._timezone, known=self._known, is_checked=True
        )
        if mappings.revision != revision:
            raise DocumentError([_overtaken(folder)])
        self._agrees(mappings)
        generation = compile_generation(mappings, self._former)
        self._former = former_of(mappings, generation)
        return generation


def _overtaken(folder: Path) -> Problem:
    return Problem(
        Place(folder.name, 1, 1),
        "H713",
        "the files changed while they were checked",
        "检查过程中文件又被修改",
        "save once more when all files are complete",
        "请在全部文件写完后再保存一次",
    )
