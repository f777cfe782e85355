"""What the service's account may read on Linux, by owner, group and mode, and which files a configuration is about."""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import his_db
from agent.config import Settings
from his_db.document.located import load_document
from service_install.plan import ServiceError, refused

# Hidden from the service by ProtectHome= and PrivateTmp=.
_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - compared, nothing is written there
# A folder that is given to the service's account must be its own, never one of these.
_SHARED: Final = frozenset({"/etc", "/usr", "/var", "/run", "/opt", "/srv", "/var/lib", "/var/log", "/var/cache"})
_FILE: Final = "@file:"


@dataclass(frozen=True, slots=True)
class Account:
    """Numbers of a Linux account; None while it does not exist yet, then it is one of "others"."""

    name: str
    uid: int | None
    gids: frozenset[int]

    def may(self, path: Path, *, search: bool = False) -> bool:
        """Whether it may read a file, or list and search a folder. Raises ServiceError when that cannot be seen."""
        try:
            found = path.stat()
        except OSError as error:
            raise refused(f"无法查看 {path}", f"cannot look at {path}", error) from error
        if self.uid == found.st_uid:
            bits = found.st_mode >> 6
        elif found.st_gid in self.gids:
            bits = found.st_mode >> 3
        else:
            bits = found.st_mode
        if search:
            wanted = 0o1
        elif stat.S_ISDIR(found.st_mode):
            wanted = 0o5
        else:
            wanted = 0o4
        return bits & wanted == wanted


def account_of(name: str) -> Account:
    """An account of this machine, existing or not."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return Account(name, None, frozenset())
    groups = {entry.pw_gid, *(group.gr_gid for group in grp.getgrall() if name in group.gr_mem)}
    return Account(name, entry.pw_uid, frozenset(groups))


def read_paths(settings: Settings) -> Sequence[Path]:
    """Files and folders that the configuration names and that are there: itself, certificates, mappings, secrets."""
    own = Path(his_db.__path__[0])
    found = {path for path in _named(settings) if path.exists() and not path.is_relative_to(own)}
    return sorted(found - set(write_folders(settings)) - {settings.state.path})


def write_folders(settings: Settings) -> Sequence[Path]:
    """Folders that the agent writes to: state, logs, events in files, reports, a SQLite HIS. Raises ServiceError."""
    folders = {settings.state.path.parent}
    if settings.log.file is not None:
        folders.add(settings.log.file.parent)
    if settings.delivery.sink == "file":
        folders.add(settings.delivery.folder)
    if settings.report.enabled and settings.report.files:
        folders.add(settings.report.folder)
    for source in settings.sources.values():
        if source.settings.engine == "sqlite":
            folders.add(Path(source.settings.database).parent)
    written = {settings.state.path, settings.log.file, *folders}
    written |= {Path(one.settings.database) for one in settings.sources.values() if one.settings.engine == "sqlite"}
    others = _named(settings) - written
    return sorted(_own(folder, others) for folder in folders)


def check_visible(paths: Sequence[Path]) -> None:
    """Raises ServiceError for the first path that the hardened service cannot see."""
    for path in paths:
        hidden = next((place for place in _HIDDEN if path.is_relative_to(place)), None)
        if hidden is not None:
            raise ServiceError(
                f"服务看不到 {hidden} 下的文件：{path}",
                f"the service cannot see anything below {hidden}: {path}",
                fix_zh="请把程序放到 /opt/his160，配置放到 /etc/his160",
                fix="put the program into /opt/his160 and the configuration into /etc/his160",
            )


def ungranted(path: Path, account: Account) -> Iterator[Path]:
    """What the account may not read: entries of a tree or a file, and its folders on the way. Raises ServiceError."""
    for folder in reversed(path.parents):
        if not account.may(folder, search=True):
            yield folder
    if not account.may(path):
        yield path
    if path.is_dir():
        for entry in sorted(path.rglob("*")):
            if not account.may(entry):
                yield entry


def check_grantable(path: Path, account: Account, folder: Path) -> None:
    """Raises ServiceError where giving a path to the account's group would take it from another group.

    ``folder``: of the configuration, which is ours to change.
    """
    gid = path.stat().st_gid
    if gid == 0 or gid in account.gids or path.is_relative_to(folder):
        return
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    raise ServiceError(
        f"账号 {account.name} 无法读取 {path}，它属于组 {group}",
        f"the account {account.name} may not read {path}, which belongs to the group {group}",
        fix_zh=f"执行 usermod -aG {group} {account.name}，或把文件复制到 {folder}",
        fix=f"usermod -aG {group} {account.name}, or copy it into {folder}",
    )


def _named(settings: Settings) -> set[Path]:
    """Every file and folder that the configuration names, itself and its secrets included, there or not."""
    data = load_document(settings.file).data
    secrets = {settings.file.parent / text.removeprefix(_FILE) for text in _texts(data)}
    return {*_paths(settings), settings.file, *secrets}


def _own(folder: Path, others: Iterable[Path]) -> Path:
    """The folder, when it can be given to the service's account: nothing that the agent only reads lies in it."""
    if len(folder.parts) < 3 or str(folder) in _SHARED or any(path.is_relative_to(folder) for path in others):
        raise ServiceError(
            f"{folder} 不能交给服务账号：其中还有别的文件",
            f"{folder} cannot be given to the service's account: it holds other things",
            fix_zh="请在配置中为状态库、日志等指定单独的文件夹，例如 /var/lib/his160、/var/log/his160",
            fix="give state, logs and events folders of their own, for example /var/lib/his160 and /var/log/his160",
        )
    return folder


def _paths(value: Any) -> Iterator[Path]:
    """Every path in a tree of settings."""
    if isinstance(value, Path):
        yield value.absolute()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _paths(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _paths(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _paths(item)


def _texts(value: Any) -> Iterator[str]:
    """Every ``@file:`` reference of a document."""
    if isinstance(value, str) and value.startswith(_FILE):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def set_owner(path: Path, uid: int, gid: int) -> None:
    """Change owner and group of an entry itself, never of what a link points to. Raises ServiceError."""
    try:
        os.chown(path, uid, gid, follow_symlinks=False)
    except OSError as error:
        raise refused(f"无法更改 {path} 的属主", f"chown of {path}", error) from error


def set_mode(path: Path, mode: int) -> None:
    """Change the mode. Raises ServiceError."""
    try:
        path.chmod(mode)
    except OSError as error:
        raise refused(f"无法更改 {path} 的权限", f"chmod of {path}", error) from error
