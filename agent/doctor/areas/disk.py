"""Folders that the agent writes: whether they can be written, how much room there is, whether the disk is local."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from agent.doctor.check import Check, Context
from agent.doctor.finding import Findings

_MEGABYTE: Final = 1024 * 1024
_LEAST: Final = 100 * _MEGABYTE
_GOOD: Final = 1024 * _MEGABYTE
_FILES: Final = 1000
_PROBE: Final = 64 * 1024
_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "glusterfs", "ceph", "afs"})
_FULL: Final = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
_REMOTE_DRIVE: Final = 4  # DRIVE_REMOTE of GetDriveTypeW


def checks(context: Context) -> Sequence[Check]:
    """One for each folder."""
    settings = context.settings
    folders = {"[state] path": settings.state.path.parent}
    if settings.log.file is not None:
        folders["[log] file"] = settings.log.file.parent
    if settings.delivery.sink == "file":
        folders["[delivery] folder"] = settings.delivery.folder
    if settings.report.enabled:
        folders["[report] folder"] = settings.report.folder
    folders.update({f"[drop.{name}] folder": drop.folder for name, drop in settings.drops.items()})
    return [Check(where, partial(look, where, folder)) for where, folder in folders.items()]


def look(where: str, folder: Path, context: Context) -> Findings:
    """Room, and whether a file can be written. A folder that is not there yet is judged by the one above it."""
    findings = Findings()
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    _room(where, place, context, findings)
    _writing(where, folder, place, findings)
    if where.startswith("[state]") and _is_remote(place):
        findings.wrong(
            "H727",
            where,
            f"{folder} 在网络共享上：断网或锁失效会损坏状态库",
            f"{folder} is on a network share: a broken network or lock damages the store",
            "把 [state] path 放到本机磁盘；双机请用 PostgreSQL（[state] url）",
            "put [state] path on a local disk; two agents share a PostgreSQL ([state] url)",
        )
    if not findings.found:
        free = context.space(place).free // _MEGABYTE
        findings.good(f"{where} {folder}：可写，剩余 {free} MB", f"{where} can be written, {free} MB free")
    return findings


def _room(where: str, place: Path, context: Context, findings: Findings) -> None:
    space = context.space(place)
    if space.free < _GOOD:
        add = findings.wrong if space.free < _LEAST else findings.warn
        free = space.free // _MEGABYTE
        add(
            "H725",
            where,
            f"{place} 所在磁盘只剩 {free} MB",
            f"only {free} MB are free where {place} is",
            "请清理或扩容；磁盘写满后代理不再向 HIS 写入，直到有空间",
            "make room; with a full disk the agent writes nothing to the HIS until there is some",
        )
    if 0 <= space.files < _FILES:
        findings.warn(
            "H725",
            where,
            f"{place} 所在磁盘只能再建 {space.files} 个文件（inode 用尽）",
            f"only {space.files} more files fit where {place} is (inodes)",
            "df -i 查看；清理小文件",
            "df -i; remove small files",
        )


def _writing(where: str, folder: Path, place: Path, findings: Findings) -> None:
    try:
        if place == folder:
            # Some bytes, to the disk: a file system can be full with room to see, by quota or for this account.
            with tempfile.TemporaryFile(dir=place, prefix=".his160-doctor-") as file:
                file.write(b"\0" * _PROBE)
                file.flush()
                os.fsync(file.fileno())
        elif not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.errno in _FULL:
            findings.wrong(
                "H725",
                where,
                f"{folder} 写不进去：{reason}",
                f"nothing can be written to {folder}: {reason}",
                "请清理或扩容磁盘，检查配额",
                "make room on the disk, look at quotas",
            )
            return
        findings.wrong(
            "H726",
            where,
            f"本账号不能写入 {folder}：{reason}",
            f"this account cannot write to {folder}: {reason}",
            "请把文件夹交给运行代理的账号（his160 service install 会自动处理）",
            "give the folder to the account of the agent (his160 service install does)",
        )


def _is_remote(place: Path) -> bool:
    if sys.platform == "win32":
        text = str(place.resolve())
        libraries: Any = getattr(ctypes, "windll", None)
        drive = f"{place.resolve().drive}\\"
        return text.startswith("\\\\") or bool(libraries and libraries.kernel32.GetDriveTypeW(drive) == _REMOTE_DRIVE)
    return file_system(place.resolve()) in _REMOTE


def file_system(place: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system that a path is on; empty where nobody says."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        parts = line.split()
        if len(parts) < 3:
            continue
        point = parts[1].replace("\\040", " ")
        is_above = point == "/" or place == Path(point) or Path(point) in place.parents
        if is_above and len(point) >= len(best):
            best, kind = point, parts[2]
    return kind
