"""Steps of a plan on Windows: the service, how the manager treats it, event source, access to files, logon right."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from service_install.plan import ServiceError, Undo, Words, refused
from service_install.windows_manager import Behaviour, ServiceDefinition, WindowsManager


@dataclass(frozen=True, slots=True)
class Registered:
    """The service registered as wanted, and our mark on it."""

    manager: WindowsManager
    wanted: ServiceDefinition

    @property
    def does(self) -> Words:
        wanted = self.wanted
        return Words(
            f"登记服务 {wanted.name}，账号 {wanted.account}，命令 {wanted.command}",
            f"register the service {wanted.name}, account {wanted.account}, command {wanted.command}",
        )

    @property
    def undoes(self) -> Words:
        return Words(
            f"删除服务 {self.wanted.name}，或恢复原来的登记", f"remove {self.wanted.name}, or put it back as it was"
        )

    def is_done(self) -> bool:
        name = self.wanted.name
        return self.manager.definition(name) == self.wanted and self.manager.mark(name) == self.wanted.digest()

    def do(self) -> Undo:
        name = self.wanted.name
        before = self.manager.definition(name)
        if before is None:
            self.manager.create(self.wanted)
            undo: Undo = partial(self.manager.delete, name)
        else:
            mark = self.manager.mark(name)
            self.manager.change(self.wanted)
            undo = partial(self._put_back, before, mark)
        try:
            self.manager.set_mark(name, self.wanted.digest())
        except ServiceError:
            with suppress(ServiceError):  # the first error is the one to tell
                undo()
            raise
        return undo

    def _put_back(self, before: ServiceDefinition, mark: str) -> None:
        self.manager.change(before)
        self.manager.set_mark(before.name, mark)


@dataclass(frozen=True, slots=True)
class Behaves:
    """Description, delayed start, recovery actions, pre-shutdown time. ``tell``: what this Windows does not know."""

    manager: WindowsManager
    name: str
    wanted: Behaviour
    tell: Callable[[str], None] = field(compare=False)

    @property
    def does(self) -> Words:
        waits = ", ".join(f"{wait.total_seconds():.0f}s" for wait in self.wanted.restarts)
        left = f"{self.wanted.preshutdown.total_seconds():.0f}s"
        return Words(
            f"设置 {self.name}：延迟自动启动，失败后 {waits} 重启，关机前留 {left}",
            f"set {self.name}: delayed start, restart {waits} after failures, {left} before a shutdown",
        )

    @property
    def undoes(self) -> Words:
        return Words("随服务一起删除", "goes with the service")

    def is_done(self) -> bool:
        return self.manager.definition(self.name) is not None and self.manager.behaves(self.name, self.wanted)

    def do(self) -> Undo:
        for unknown in self.manager.behave(self.name, self.wanted):
            self.tell(unknown)
        return _nothing


@dataclass(frozen=True, slots=True)
class EventSource:
    """The name known to the event log, or (``wanted`` False) not."""

    manager: WindowsManager
    name: str
    wanted: bool = True

    @property
    def does(self) -> Words:
        add = Words(f"登记事件日志来源 {self.name}", f"make the event source {self.name}")
        return add if self.wanted else Words(f"删除事件日志来源 {self.name}", f"remove the event source {self.name}")

    @property
    def undoes(self) -> Words:
        return EventSource(self.manager, self.name, not self.wanted).does

    def is_done(self) -> bool:
        return self.manager.has_event_source(self.name) is self.wanted

    def do(self) -> Undo:
        add, remove = self.manager.add_event_source, self.manager.remove_event_source
        (add if self.wanted else remove)(self.name)
        return partial(remove if self.wanted else add, self.name)


@dataclass(frozen=True, slots=True)
class FolderAccess:
    """A folder or file that the service's account may read, or change; a folder to write to is made."""

    manager: WindowsManager
    path: Path
    account: str
    write: bool

    @property
    def does(self) -> Words:
        zh, en = ("读写", "change") if self.write else ("读取", "read")
        return Words(f"允许 {self.account} {zh} {self.path}", f"let {self.account} {en} {self.path}")

    @property
    def undoes(self) -> Words:
        return Words(f"恢复 {self.path} 原来的权限", f"put the access list of {self.path} back")

    def is_done(self) -> bool:
        return self.path.exists() and self.manager.is_granted(self.path, self.account, write=self.write)

    def do(self) -> Undo:
        made = not self.path.exists()
        try:
            if made:
                self.path.mkdir(parents=True)
        except OSError as error:
            raise refused(f"无法新建 {self.path}", f"mkdir {self.path}", error) from error
        before = self.manager.access(self.path)
        self.manager.grant(self.path, self.account, write=self.write)

        def undo() -> None:
            self.manager.set_access(self.path, before)
            if made and not any(self.path.iterdir()):
                self.path.rmdir()

        return undo


@dataclass(frozen=True, slots=True)
class LogonRight:
    """A person's or domain account that may be used for a service."""

    manager: WindowsManager
    account: str

    @property
    def does(self) -> Words:
        return Words(f"授予 {self.account} “作为服务登录”权限", f"let {self.account} log on as a service")

    @property
    def undoes(self) -> Words:
        return Words("收回该权限", "take that right back")

    def is_done(self) -> bool:
        return self.manager.has_logon_right(self.account)

    def do(self) -> Undo:
        self.manager.set_logon_right(self.account, allowed=True)
        return partial(self.manager.set_logon_right, self.account, allowed=False)


@dataclass(frozen=True, slots=True)
class Runs:
    """The service runs (``wanted``), or does not. ``start`` and ``stop`` wait until it is so."""

    name: str
    wanted: bool
    runs: Callable[[], bool]
    start: Callable[[], None]
    stop: Callable[[], None]

    @property
    def does(self) -> Words:
        if self.wanted:
            return Words(f"启动 {self.name} 并等到它开始服务", f"start {self.name} and wait until it serves")
        return Words(f"停止 {self.name}", f"stop {self.name}")

    @property
    def undoes(self) -> Words:
        return Words(f"停止 {self.name}", f"stop {self.name}") if self.wanted else Words("重新启动", "start it again")

    def is_done(self) -> bool:
        return self.runs() is self.wanted

    def do(self) -> Undo:
        if not self.wanted:
            self.stop()
            return self.start
        try:
            self.start()
        except ServiceError:
            with suppress(ServiceError):  # the manager would start it again and again
                self.stop()
            raise
        return self.stop


@dataclass(frozen=True, slots=True)
class Unregistered:
    """No service of that name. Comes last: a service with a person's password could not be put back."""

    manager: WindowsManager
    name: str

    @property
    def does(self) -> Words:
        return Words(f"删除服务 {self.name}", f"remove the service {self.name}")

    @property
    def undoes(self) -> Words:
        return Words(f"重新登记 {self.name}", f"register {self.name} again")

    def is_done(self) -> bool:
        return self.manager.definition(self.name) is None

    def do(self) -> Undo:
        before = self.manager.definition(self.name)
        mark = self.manager.mark(self.name)
        self.manager.delete(self.name)

        def undo() -> None:
            if before is not None:
                self.manager.create(before)
                self.manager.set_mark(before.name, mark)

        return undo


def _nothing() -> None:
    """Goes with the service."""
