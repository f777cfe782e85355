"""Steps of a plan on Linux: the account, access to files, the unit, what systemctl does."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from service_install.linux_access import account_of, set_mode, set_owner
from service_install.plan import ServiceError, Undo, Words, refused

Run = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a program to its end: exit code and what it printed."""

_JOURNAL_LINES: Final = "25"
_LIMIT: Final = 300  # seconds; a start may take TimeoutStartSec


def run_program(words: Sequence[str]) -> tuple[int, str]:
    """The real ``Run``. Raises ServiceError when the program is not there or hangs."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=_LIMIT, check=False
        )
    except FileNotFoundError as error:
        raise ServiceError(f"没有程序 {words[0]}", f"there is no program {words[0]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{words[0]} 无法完成", f"{words[0]} did not end well: {type(error).__name__}") from error
    return done.returncode, (done.stdout + done.stderr).strip()


def must(run: Run, *words: str) -> str:
    """What the program printed. Raises ServiceError for another exit code than 0."""
    code, text = run(words)
    if code != 0:
        command = " ".join(words)
        raise ServiceError(f"{command} 失败（{code}）：{text}", f"{command} failed ({code}): {text}")
    return text


@dataclass(frozen=True, slots=True)
class SystemAccount:
    """A system account and its group, without a login and without a home of its own."""

    run: Run
    name: str
    home: Path

    @property
    def does(self) -> Words:
        return Words(f"新建系统账号 {self.name}（不能登录）", f"make the system account {self.name}, without login")

    @property
    def undoes(self) -> Words:
        return Words(f"删除账号 {self.name}", f"remove the account {self.name}")

    def is_done(self) -> bool:
        return account_of(self.name).uid is not None

    def do(self) -> Undo:
        shell = shutil.which("nologin") or "/bin/false"
        options = ("--system", "--user-group", "--no-create-home", "--home-dir", str(self.home), "--shell", shell)
        must(self.run, "useradd", *options, self.name)
        return lambda: _nothing(must(self.run, "userdel", self.name))


@dataclass(frozen=True, slots=True)
class ReadAccess:
    """Files and folders that the account's group may read: their group becomes the account's, g+r (folders: g+rx).

    ``about``: the file or folder of the configuration for whose sake; ``entries``: what has to change, at least one.
    """

    about: Path
    entries: Sequence[Path]
    account: str

    @property
    def does(self) -> Words:
        more = f"（{len(self.entries)} 项）", f" ({len(self.entries)} entries)"
        return Words(
            f"允许 {self.account} 读取 {self.about}{more[0]}", f"let {self.account} read {self.about}{more[1]}"
        )

    @property
    def undoes(self) -> Words:
        return Words(f"恢复 {self.about} 原来的属组与权限", f"put group and mode of {self.about} back")

    def is_done(self) -> bool:
        account = account_of(self.account)
        return account.uid is not None and all(account.may(entry) for entry in self.entries)

    def do(self) -> Undo:
        gid = min(account_of(self.account).gids, default=-1)
        before = [(entry, entry.stat()) for entry in self.entries]

        def undo() -> None:
            for entry, was in before:
                set_owner(entry, -1, was.st_gid)
                set_mode(entry, was.st_mode & 0o7777)

        def grant() -> None:
            for entry, was in before:
                set_owner(entry, -1, gid)
                set_mode(entry, (was.st_mode & 0o7777) | (0o050 if entry.is_dir() else 0o040))

        return whole(grant, undo)


@dataclass(frozen=True, slots=True)
class OwnFolder:
    """A folder that belongs to the account with all that is in it, mode 0750."""

    path: Path
    account: str

    @property
    def does(self) -> Words:
        return Words(f"文件夹 {self.path} 交给 {self.account}", f"give the folder {self.path} to {self.account}")

    @property
    def undoes(self) -> Words:
        return Words(f"恢复 {self.path} 原来的属主；新建的空文件夹则删除", f"put the owners in {self.path} back")

    def is_done(self) -> bool:
        uid = account_of(self.account).uid
        return uid is not None and self.path.is_dir() and all(p.lstat().st_uid == uid for p in self._tree())

    def do(self) -> Undo:
        account = account_of(self.account)
        made = self._make()
        before = [(path, path.lstat().st_uid, path.lstat().st_gid) for path in self._tree()]

        def give() -> None:
            for path, _, _ in before:
                set_owner(path, -1 if account.uid is None else account.uid, min(account.gids, default=-1))

        def undo() -> None:
            for path, uid, gid in before:
                set_owner(path, uid, gid)
            for folder in made:
                if not any(folder.iterdir()):
                    folder.rmdir()

        return whole(give, undo)

    def _make(self) -> list[Path]:
        """The folders that had to be made, the deepest first."""
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise refused(f"无法新建 {self.path}", f"mkdir {self.path}", error) from error
        return missing

    def _tree(self) -> list[Path]:
        return [self.path, *sorted(self.path.rglob("*"))]


@dataclass(frozen=True, slots=True)
class UnitFile:
    """A unit in its place, and systemd told about it."""

    run: Run
    path: Path
    text: str

    @property
    def does(self) -> Words:
        return Words(f"写入 {self.path} 并 daemon-reload", f"write {self.path}, then daemon-reload")

    @property
    def undoes(self) -> Words:
        return Words(f"恢复 {self.path}（原来没有则删除）", f"put back what {self.path} was, or remove it")

    def is_done(self) -> bool:
        return read_unit(self.path) == self.text

    def do(self) -> Undo:
        before = read_unit(self.path)

        def write() -> None:
            write_whole(self.path, self.text)
            must(self.run, "systemctl", "daemon-reload")

        return whole(write, lambda: put_back(self.run, self.path, before))


@dataclass(frozen=True, slots=True)
class NoUnitFile:
    """No unit in that place any more, and systemd told about it."""

    run: Run
    path: Path

    @property
    def does(self) -> Words:
        return Words(f"删除 {self.path} 并 daemon-reload", f"remove {self.path}, then daemon-reload")

    @property
    def undoes(self) -> Words:
        return Words(f"写回 {self.path}", f"write {self.path} back")

    def is_done(self) -> bool:
        return read_unit(self.path) is None

    def do(self) -> Undo:
        before = read_unit(self.path)
        undo = partial(put_back, self.run, self.path, before)
        return whole(lambda: put_back(self.run, self.path, None), undo)


@dataclass(frozen=True, slots=True)
class Systemctl:
    """A verb of systemctl with the one that takes it back; ``asked`` answers 0 when it is (not) done already."""

    run: Run
    unit: str
    verb: str
    back: str
    asked: str
    done_when: bool
    words: Words

    @property
    def does(self) -> Words:
        return self.words

    @property
    def undoes(self) -> Words:
        return Words(f"systemctl {self.back} {self.unit}", f"systemctl {self.back} {self.unit}")

    def is_done(self) -> bool:
        code, _ = self.run(("systemctl", self.asked, "--quiet", self.unit))
        return (code == 0) is self.done_when

    def do(self) -> Undo:
        # A failed start is taken back too: systemd would go on trying.
        return whole(partial(self._say, self.verb), partial(self._say, self.back))

    def _say(self, verb: str) -> None:
        said(self.run, verb, self.unit)


def said(run: Run, verb: str, unit: str) -> None:
    """Have systemctl do it. Raises ServiceError, with the unit's last lines when it was to start."""
    code, text = run(("systemctl", "--quiet", verb, unit))
    if code == 0:
        return
    if verb in ("start", "restart"):
        _, journal = run(("journalctl", "--no-pager", "--output=cat", "-n", _JOURNAL_LINES, "-u", unit))
        text = f"{text}\n{journal}".strip()
    raise ServiceError(f"systemctl {verb} {unit} 失败（{code}）", f"systemctl {verb} {unit} failed:\n{text}")


def read_unit(path: Path) -> str | None:
    """The text of a unit, None when there is none. Raises ServiceError."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"无法读取 {path}", f"cannot read {path}: {type(error).__name__}") from error


def write_whole(path: Path, text: str) -> None:
    """Write a file, mode 0644, so that there is never half of it. Raises ServiceError."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.chmod(0o644)
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise refused(f"无法写入 {path}", f"cannot write {path}", error) from error


def put_back(run: Run, path: Path, text: str | None) -> None:
    """The unit as it was, or no unit. Raises ServiceError."""
    if text is not None:
        write_whole(path, text)
    else:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise refused(f"无法删除 {path}", f"cannot remove {path}", error) from error
    must(run, "systemctl", "daemon-reload")


def whole(effect: Callable[[], None], undo: Undo) -> Undo:
    """Do something that has parts; when one fails, take back the others before the error goes on."""
    try:
        effect()
    except ServiceError:
        with suppress(ServiceError):  # the first error is the one to tell
            undo()
        raise
    return undo


def _nothing(_: object) -> None:
    """An undo returns nothing."""
