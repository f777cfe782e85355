"""Where the running mappings come from: the folder that is edited, or the revision that was published.

``[mapping] use = "published"``: the live revision of ``<state>/mappings`` alone decides; edits of the folder change
nothing until somebody publishes them. Nothing published yet: the folder as it was at the start.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.config import MappingUse
from agent.mapping_watch import Fingerprint, fingerprint, set_files
from his_db.document.problem import DocumentError, Place, Problem
from his_db.workbench.revisions import RevisionRefused, Revisions

_POINTER: Final = "live.json"


@dataclass(frozen=True, slots=True)
class Taken:
    """The set that runs or may run next. ``key``: whose last good copy it becomes; ``revision`` empty: any."""

    folder: Path
    key: Path
    revision: str = ""

    def check(self, revision: str) -> None:
        """Raises DocumentError when the archive of a published revision is not what was published."""
        if self.revision and revision != self.revision:
            raise _refused(
                f"the stored files of {self.revision} were changed", f"版本 {self.revision} 的存档被改动过，拒绝启用"
            )


class MappingOrigin:
    """``folder``: of the configuration; ``revisions``: what was published. Every method reads files: call in a thread.

    Properties are as of the last ``look``.
    """

    def __init__(self, folder: Path, revisions: Revisions | None = None, *, use: MappingUse = "folder") -> None:
        self.folder = folder
        self._revisions = revisions
        self._use = use
        self._folder_seen: Fingerprint | None = None
        self._folder_revision = ""
        self._published = ""

    @property
    def is_published(self) -> bool:
        """Whether only what was published may run."""
        return self._use == "published"

    @property
    def folder_revision(self) -> str:
        """Of the files in the folder, whether they are right or not; empty: there are none."""
        return self._folder_revision

    @property
    def published_revision(self) -> str:
        """The live revision; empty: nothing was published, or it cannot be read."""
        return self._published

    def look(self) -> Fingerprint:
        """What decides which mappings run; differs when they may be others. Renews the revisions."""
        seen = fingerprint(self.folder)
        if seen != self._folder_seen:
            self._folder_seen, self._folder_revision = seen, revision_of(self.folder)
        try:
            self._published = "" if self._revisions is None else self._revisions.live()
        except RevisionRefused:
            self._published = ""
        if not self.is_published or self._revisions is None:
            return seen
        pointer = self._revisions.root / _POINTER
        try:
            found = pointer.stat()
        except OSError:
            return ()
        about = (pointer.as_posix(), found.st_size, found.st_mtime_ns, found.st_ino)
        return (about, *fingerprint(self._revisions.root / (self._published or "-")))

    def taken(self) -> Taken:
        """What should run. Raises DocumentError when what was published cannot be found."""
        if not self.is_published or self._revisions is None:
            return Taken(self.folder, self.folder)
        try:
            live = self._revisions.live()
            if live:
                return Taken(self._revisions.folder(live), self._revisions.root, live)
            was_published = any(entry.action != "submit" for entry in self._revisions.history())
        except RevisionRefused as error:
            raise _refused(error.en, error.zh) from error
        if was_published:  # never fall back to what nobody has published
            raise _refused(f"{_POINTER} is missing", f"{_POINTER} 缺失，请用 rollback 指定版本")
        return Taken(self.folder, self.folder)

    def key(self) -> Path:
        """Whose last good copy may run when ``taken`` cannot."""
        try:
            return self.taken().key
        except DocumentError:
            return self.folder if self._revisions is None else self._revisions.root

    def places(self, revision: str) -> tuple[Path, ...]:
        """Folders that may hold the files of a revision: the archive, if there is one, and the folder."""
        try:
            archive = () if self._revisions is None else (self._revisions.folder(revision),)
        except RevisionRefused:
            archive = ()
        return (*archive, self.folder)

    def locks(self, revision: str) -> tuple[Path, ...]:
        """Folders whose ``mappings.lock`` may be that of a revision."""
        return self.places(revision) if self.is_published else (self.folder,)


def revision_of(folder: Path) -> str:
    """The revision that ``his_db.mapping.load`` gives the files, without reading what they say. Empty: no files."""
    found = hashlib.sha256()
    is_empty = True
    try:
        for path in sorted(set_files(folder)):
            is_empty = False
            found.update(path.relative_to(folder).as_posix().encode("utf-8", "surrogatepass") + b"\0")  # any file name
            found.update(hashlib.sha256(path.read_bytes()).digest())
    except OSError:  # gone meanwhile: the next look reads it whole
        return ""
    return "" if is_empty else found.hexdigest()[:16]


def _refused(en: str, zh: str) -> DocumentError:
    problem = Problem(
        Place(_POINTER, 1, 1),
        "H712",
        en,
        zh,
        "his160 mapping history, then rollback to a revision that is whole",
        "用 his160 mapping history 查看，再用 rollback 回到完好的版本",
    )
    return DocumentError([problem])
