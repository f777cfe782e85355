"""Revisions of the mapping folder: `<state>/mappings/<revision>/`, an append-only history, one pointer to the live one.

A revision is stored once, under the hash of its files, and never changed. Each line of the history holds the hash of
the line before it, so that a line that was edited or removed is seen. The pointer is replaced in one step.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from his_db.move import move
from his_db.workbench.drift import LOCK
from his_db.workbench.site import Site

_LIVE: Final = "live.json"
_HISTORY: Final = "history.jsonl"
_START: Final = "0" * 64
_SUFFIXES: Final = frozenset({".toml", ".sql"})


class RevisionRefused(Exception):
    """It cannot be done; both sentences say why."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.en = en
        self.zh = zh


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the history. `action`: submit (waits for a second person), publish, rollback."""

    at: str
    action: str
    revision: str
    digest: str
    previous: str
    author: str
    approver: str
    note: str


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file that differs. `what`: added, removed, changed; `lines`: unified diff."""

    file: str
    what: str
    lines: tuple[str, ...]


class Revisions:
    """The store of one site. `root` is `<state>/mappings`."""

    def __init__(self, state: Path) -> None:
        self.root = state / "mappings"

    def live(self) -> str:
        """The live revision; empty when nothing was published."""
        try:
            found = json.loads((self.root / _LIVE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            raise RevisionRefused(
                f"{_LIVE} is damaged", f"{_LIVE} 已损坏，请从 {_HISTORY} 核对后用 rollback 指定版本"
            ) from error
        return str(found.get("revision", "")) if isinstance(found, dict) else ""

    def folder(self, revision: str) -> Path:
        """Where a revision is kept. Raises RevisionRefused for one that is not there."""
        if not revision.isalnum() or not (self.root / revision).is_dir():
            raise RevisionRefused(f"there is no revision {revision}", f"没有版本 {revision}")
        return self.root / revision

    def history(self) -> tuple[Entry, ...]:
        """All lines, oldest first. Raises RevisionRefused when the chain is broken."""
        return tuple(entry for entry, _ in self._lines())

    def _lines(self) -> Iterator[tuple[Entry, str]]:
        try:
            text = (self.root / _HISTORY).read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        chain = _START
        for number, line in enumerate(text.splitlines(), 1):
            try:
                data = json.loads(line)
                told = data.pop("chain")
                entry = Entry(**data)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise _broken(number) from error
            chain = _chained(chain, data)
            if chain != told:
                raise _broken(number)
            yield entry, chain

    def publish(
        self, site: Site, *, author: str, note: str, approve: bool = False, require_approval: bool = False
    ) -> Entry:
        """Check, store, and make live; with `require_approval` the first call only submits.

        `approve`: what somebody else submitted, unchanged, becomes live. Raises DocumentError and RevisionRefused.
        """
        if not author.strip() or not note.strip():
            raise RevisionRefused("author and note must not be empty", "必须填写发布人和说明")
        mapping_set = site.load()
        revision, digest, live = mapping_set.revision, digest_of(site.folder), self.live()
        if approve:
            waiting = self.waiting()
            if waiting is None or waiting.revision != revision or waiting.digest != digest:
                raise RevisionRefused(
                    "these files were not submitted, or changed since", "没有待审批的提交，或提交后文件又有改动"
                )
            if waiting.author.strip().casefold() == author.strip().casefold():
                raise RevisionRefused("the second person must be another one", "审批人不能是提交人本人")
            self._store(site.folder, revision, digest)
            return self._switch("publish", revision, digest, live, waiting.author, author, f"{waiting.note} / {note}")
        if revision == live:
            raise RevisionRefused(f"{revision} is live already", f"版本 {revision} 已是当前正式版本")
        self._store(site.folder, revision, digest)
        if require_approval:
            return self._append("submit", revision, digest, live, author, "", note)
        return self._switch("publish", revision, digest, live, author, "", note)

    def waiting(self) -> Entry | None:
        """The submission that waits for a second person."""
        entries = self.history()
        return entries[-1] if entries and entries[-1].action == "submit" else None

    def rollback(self, *, author: str, note: str, revision: str = "") -> Entry:
        """Make an earlier revision live: the one named, else the one before. Raises RevisionRefused."""
        if not author.strip() or not note.strip():
            raise RevisionRefused("author and note must not be empty", "必须填写操作人和说明")
        live = self.live()
        entries = [entry for entry in self.history() if entry.action != "submit"]
        if not revision:
            before = [entry for entry in entries if entry.revision == live and entry.action == "publish"]
            revision = before[-1].previous if before else ""
            if not revision:
                raise RevisionRefused("there is no revision before this one", "没有更早的版本可以回退")
        wanted = [entry for entry in entries if entry.revision == revision]
        if not wanted:
            raise RevisionRefused(f"{revision} was never live", f"版本 {revision} 从未正式发布过")
        if revision == live:
            raise RevisionRefused(f"{revision} is live already", f"版本 {revision} 已是当前正式版本")
        digest = digest_of(self.folder(revision))
        if digest != wanted[-1].digest:
            raise RevisionRefused(
                f"the stored files of {revision} were changed", f"版本 {revision} 的存档被改动过，拒绝启用"
            )
        return self._switch("rollback", revision, digest, live, author, "", note)

    def diff(self, folder: Path, revision: str = "") -> tuple[FileChange, ...]:
        """What `folder` changes against a revision; default: the live one (nothing: all files are new)."""
        revision = revision or self.live()
        old = dict(_texts(self.folder(revision))) if revision else {}
        new = dict(_texts(folder))
        found: list[FileChange] = []
        for name in sorted({*old, *new}):
            before, after = old.get(name), new.get(name)
            if before == after:
                continue
            what = "added" if before is None else "removed" if after is None else "changed"
            lines = difflib.unified_diff(
                (before or "").splitlines(), (after or "").splitlines(), f"{revision}/{name}", name, lineterm="", n=2
            )
            found.append(FileChange(name, what, tuple(lines)))
        return tuple(found)

    def _store(self, folder: Path, revision: str, digest: str) -> None:
        target = self.root / revision
        if target.is_dir():
            if digest_of(target) == digest:
                return
            shutil.rmtree(target)
        beside = self.root / f".{revision}.{os.getpid()}"
        shutil.rmtree(beside, ignore_errors=True)
        for name, path in _files(folder):
            copy = beside / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        if (folder / LOCK).is_file():
            shutil.copyfile(folder / LOCK, beside / LOCK)
        move(beside, target)

    def _switch(
        self, action: str, revision: str, digest: str, previous: str, author: str, approver: str, note: str
    ) -> Entry:
        # History first: a pointer without a line would be a revision that nobody published.
        entry = self._append(action, revision, digest, previous, author, approver, note)
        beside = self.root / f"{_LIVE}.new"
        with beside.open("w", encoding="utf-8") as file:
            json.dump({"revision": revision, "digest": digest, "at": entry.at}, file)
            file.flush()
            os.fsync(file.fileno())
        move(beside, self.root / _LIVE)
        return entry

    def _append(
        self, action: str, revision: str, digest: str, previous: str, author: str, approver: str, note: str
    ) -> Entry:
        chain = next((found for _, found in reversed(list(self._lines()))), _START)
        at = datetime.now().astimezone().isoformat(timespec="seconds")
        entry = Entry(at, action, revision, digest, previous, author.strip(), approver.strip(), note.strip())
        data = _data(entry)
        line = json.dumps({**data, "chain": _chained(chain, data)}, ensure_ascii=False, sort_keys=True)
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / _HISTORY).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        return entry


def digest_of(folder: Path) -> str:
    """SHA-256 over names and contents of the files of a set."""
    found = hashlib.sha256()
    for name, path in _files(folder):
        found.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files that are part of a set, as `his_db.mapping.load` sees them."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith((".", "_")) for part in name.parts)
        if path.suffix.lower() in _SUFFIXES and not hidden and path.is_file():
            yield name.as_posix(), path


def _texts(folder: Path) -> Iterator[tuple[str, str]]:
    for name, path in _files(folder):
        yield name, path.read_text(encoding="utf-8-sig", errors="replace")


def _data(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in Entry.__slots__}


def _chained(chain: str, data: dict[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(f"{chain}{text}".encode()).hexdigest()


def _broken(number: int) -> RevisionRefused:
    return RevisionRefused(
        f"{_HISTORY} line {number} was changed or lines before it are missing",
        f"{_HISTORY} 第 {number} 行被改动，或之前有行缺失",
    )
