"""A power cut, played: the writes and syncs of a process are recorded, then laid down as a disk may have kept them.

    ops = recorded([python, "-c", program, …], folder)   # strace follows it; ``folder`` holds its files
    for image in cuts(ops, at, chance): image.lay(where)  # what the disk may hold when the power goes after ops[:at]

What was synced is there. Of what was written since, a disk keeps nothing, everything, or any part in any order, down to
its sectors. A file whose folder was not synced since it was made may not be there at all. ``shm`` files are memory.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SECTOR: Final = 512
_CALLS: Final = "openat,write,pwrite64,fsync,fdatasync,ftruncate,unlink"
_SYNCS: Final = ("fsync", "fdatasync")
_LINE: Final = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)", re.DOTALL)
_UNFINISHED: Final = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED: Final = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_FILE: Final = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")


@dataclass(frozen=True, slots=True)
class Op:
    """One call: ``made``, ``write``, ``sync``, ``cut`` (truncate to ``at``) or ``gone``. ``name``: the file's; empty: the folder.

    ``syncing``: a sync begins; what other threads write from here on is none of its business. Both have the thread in ``data``.
    """

    kind: str
    name: str
    at: int = -1
    data: bytes = b""


def recorded(command: Sequence[str], folder: Path, log: Path) -> list[Op]:
    """Runs the command under strace; what it did to files in ``folder``. Raises CalledProcessError."""
    subprocess.run(
        ["strace", "-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={_CALLS}", "-e", "signal=none", "-o", str(log), *command],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    ops: list[Op] = []
    halves: dict[str, str] = {}
    for line in log.read_text(encoding="ascii").splitlines():
        if half := _UNFINISHED.match(line):
            halves[half[1]] = half[3]
            if half[2] in _SYNCS:
                ops += _op(half[1], half[2], half[3], 0, folder, begins=True)
            continue
        if rest := _RESUMED.match(line):
            line = f"{rest[1]} {rest[2]}({halves.pop(rest[1])}{rest[3]}"
        found = _LINE.match(line)
        if found is not None and int(found[4]) >= 0:
            if found[2] in _SYNCS and not rest:
                ops += _op(found[1], found[2], found[3], 0, folder, begins=True)
            ops += _op(found[1], found[2], found[3], int(found[4]), folder)
    return ops


def _op(thread: str, call: str, given: str, result: int, folder: Path, *, begins: bool = False) -> list[Op]:
    texts = [_bytes(found[1]) for found in _TEXT.finditer(given)]
    if call in ("openat", "unlink"):
        name = _name(texts[0].decode(), folder)
        if name is None or not name:
            return []
        if call == "unlink":
            return [Op("gone", name)]
        made = [Op("made", name)] if "O_CREAT" in given else []
        return [*made, Op("cut", name, 0)] if "O_TRUNC" in given else made
    file = _FILE.match(given)
    name = _name(_bytes(file[1]).decode(), folder) if file else None
    if name is None:
        return []
    last = given.rpartition(", ")[2]
    match call:
        case "write":
            return [Op("write", name, -1, texts[0][:result])]
        case "pwrite64":
            return [Op("write", name, int(last, 0), texts[0][:result])]
        case "ftruncate":
            return [Op("cut", name, int(last, 0))]
        case _:
            return [Op("syncing" if begins else "sync", name, data=thread.encode())]


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _name(path: str, folder: Path) -> str | None:
    place = Path(path)
    if place == folder:
        return ""
    return place.name if place.parent == folder and not place.name.endswith("-shm") else None


@dataclass(slots=True)
class _File:
    synced: bytearray = field(default_factory=bytearray)
    pending: list[Op] = field(default_factory=list)
    is_named: bool = False
    """Whether the folder was synced since it was made."""
    syncing: dict[bytes, list[Op]] = field(default_factory=dict)
    """By thread: what was pending when its sync began."""


@dataclass(frozen=True, slots=True)
class Image:
    """What the disk holds. ``files``: name → content."""

    how: str
    files: dict[str, bytes]

    def lay(self, folder: Path) -> None:
        """Write it, in place of what was there."""
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def cuts(ops: Sequence[Op], at: int, chance: random.Random) -> Iterator[Image]:
    """The power goes after the first ``at`` calls: nothing of what was not synced is kept, all of it, and two mixtures."""
    files: dict[str, _File] = {}
    for op in ops[:at]:
        _play(files, op)
    yield Image("nothing", {name: bytes(file.synced) for name, file in files.items() if file.is_named})
    yield Image("all", {name: _after(file, file.pending) for name, file in files.items()})
    for number in (1, 2):
        mixed: dict[str, bytes] = {}
        for name, file in files.items():
            if file.is_named or chance.random() < 0.5:
                kept = [part for op in file.pending for part in _sectors(op) if chance.random() < 0.5]
                chance.shuffle(kept)
                mixed[name] = _after(file, kept)
        yield Image(f"mixture {number}", mixed)


def _play(files: dict[str, _File], op: Op) -> None:
    match op.kind:
        case "syncing" if not op.name:
            pass
        case "syncing":
            files[op.name].syncing[op.data] = list(files[op.name].pending)
        case "sync" if not op.name:
            for file in files.values():
                file.is_named = True
        case "sync":
            file = files[op.name]
            covered = {id(each) for each in file.syncing.pop(op.data)}
            file.synced = bytearray(_after(file, [each for each in file.pending if id(each) in covered]))
            file.pending = [each for each in file.pending if id(each) not in covered]
        case "gone":
            files.pop(op.name, None)  # a name that comes back would be another case
        case _:
            file = files.setdefault(op.name, _File())
            if op.kind != "made":
                file.pending.append(op)


def _after(file: _File, ops: Sequence[Op]) -> bytes:
    content = bytearray(file.synced)
    for op in ops:
        if op.kind == "cut":
            del content[op.at :]
            continue
        at = len(content) if op.at < 0 else op.at
        content.extend(bytes(max(0, at + len(op.data) - len(content))))
        content[at : at + len(op.data)] = op.data
    return bytes(content)


def _sectors(op: Op) -> Iterator[Op]:
    """A write as the sectors that a disk keeps or loses one by one."""
    if op.kind != "write" or op.at < 0:
        yield op
        return
    first = op.at
    while first < op.at + len(op.data):
        end = min((first // SECTOR + 1) * SECTOR, op.at + len(op.data))
        yield Op("write", op.name, first, op.data[first - op.at : end - op.at])
        first = end
