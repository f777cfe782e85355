"""A of MySQL and MariaDB: the binary log, read as a replica reads it, by ``mysql-replication`` (``his160[binlog]``).

The position is the end of the log at a commit. A look asks for the end; only when it has moved is the log read from
there, to its end, for the rows of one table; nothing stays open between two looks. A transaction stands in the log
before others can see its rows, so each key is named again for ``margin``: the row that is read then is the new one.

Whatever the log says that is not plainly a key (a statement instead of rows, a changed table, a key of a strange type,
very many rows) means that the whole window is read. A log that is gone, or another server's, is a lost position.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import pymysql

from his_db.document.finding import Words
from his_db.feed import FeedSpec, Obstacle, Position, PositionLost, Run, Seen

_MOST_KEYS: Final = 5000
_GONE: Final = frozenset({1236, 1373})  # the log, or the place in it, is not there any more
_VARIABLES: Final = (
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', 'log_bin_compress', "
    "'binlog_transaction_compression', 'server_uuid', 'server_id', 'hostname', 'port', 'gtid_binlog_pos', 'version')"
)
_COLUMNS: Final = (
    "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME FROM information_schema.COLUMNS "
    "WHERE TABLE_SCHEMA = COALESCE(:db, DATABASE()) AND TABLE_NAME = :name ORDER BY ORDINAL_POSITION"
)
_BITS: Final = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
# The library takes every text for UTF-8 when the log does not say what it is, and loses what is none.
_CHARSETS: Final = frozenset({"utf8mb4", "utf8mb3", "utf8", "ascii"})
_MISSING: Final = Words("the library mysql-replication is not installed", "没有安装 mysql-replication")
_CHANGES: Final = re.compile(
    r"\b(INSERT|UPDATE|DELETE|REPLACE|LOAD|TRUNCATE|ALTER|DROP|RENAME|CREATE)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Key:
    """Where the key stands in a row, and how its value in the log becomes what a SELECT would give.

    ``columns``: how many the table has. ``bits``: of an unsigned number, which the log tells as a signed one.
    """

    at: int
    columns: int
    is_number: bool
    bits: int

    def of(self, values: Mapping[str, Any]) -> Any:
        """The key; None when it cannot be told."""
        if len(values) != self.columns:
            return None
        value = list(values.values())[self.at]
        if self.is_number and isinstance(value, int):
            return value + (1 << self.bits) if value < 0 and self.bits else value
        return value if not self.is_number and isinstance(value, str) else None


class Binlog:
    """See the module."""

    rung = "binlog"
    grade = "A"
    needs_column = False

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        found = _variables(run)
        troubles = _troubles(found)
        if find_spec("pymysqlreplication") is None or troubles:
            raise PositionLost(troubles[0].words.en if troubles else _MISSING.en)
        key = _key(run, spec)
        file, at = _seen_end(run, found) or _end(run, found)
        position = {"file": file, "at": at, "server": _server(found), "key": key, "recent": {}, "all": 0.0}
        for _ in _events(run, spec, position):  # the right to read the log must show now, not at the first change
            break
        return position

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        found = _variables(run)
        server = _server(found)
        file, at = _end(run, found)
        _compare(position, server, file, at)
        now = time.monotonic()
        keys: set[Any] = set()
        everything = False
        if (file, at) != (position["file"], position["at"]):
            keys, everything = self._read(run, spec, position)
        recent = {key: until for key, until in position["recent"].items() if until > now}
        named = frozenset(keys | recent.keys())
        until = now + spec.margin.total_seconds()
        recent.update(dict.fromkeys(keys, until))
        again = until if everything else position["all"]
        following = {**position, "file": file, "at": at, "server": server, "recent": recent, "all": again}
        return Seen(following, named, everything=everything or position["all"] > now)

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        found = _troubles(_variables(run))
        if find_spec("pymysqlreplication") is None:
            fix = Words('pip install "his160[binlog]"', '请安装 "his160[binlog]"')
            found.append(Obstacle(_MISSING, fix))
        if not found:
            self.look(run, spec, self.begin(run, spec))
        return found

    def _read(self, run: Run, spec: FeedSpec, position: Position) -> tuple[set[Any], bool]:
        key: _Key | None = position["key"]
        keys: set[Any] = set()
        for values in _events(run, spec, position):
            value = None if values is None or key is None else key.of(values)
            if value is None:
                return set(), True
            keys.add(value)
            if len(keys) > _MOST_KEYS:
                return set(), True
        return keys, False


def _events(run: Run, spec: FeedSpec, position: Position) -> Iterator[Mapping[str, Any] | None]:
    """Values of every row of the table that the log tells from the position on: an update's before and after. None:
    something else has happened to the table. Raises PositionLost, pymysql.Error."""
    from pymysqlreplication import BinLogStreamReader
    from pymysqlreplication.event import QueryEvent
    from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

    # Its advice about the server's settings is not for us: columns are found by their place.
    logging.getLogger("pymysqlreplication").setLevel(logging.ERROR)
    session: Any = run.session  # type: ignore[attr-defined]  # a SessionRun on a MysqlSession
    database, table = _names(spec, run)
    reader = BinLogStreamReader(
        connection_settings={},
        server_id=(1 << 31) + secrets.randbelow(1 << 30),  # two of the same number would end each other
        pymysql_wrapper=lambda **given: session.replica(given),
        resume_stream=True,
        blocking=False,
        log_file=position["file"],
        log_pos=position["at"],
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent, QueryEvent],
        only_schemas=[database],
        only_tables=[table],
        freeze_schema=True,
        enable_logging=False,
        ignore_decode_errors=True,
    )
    try:
        for event in reader:
            if isinstance(event, QueryEvent):
                if _touches(event.query, table):
                    yield None
            elif isinstance(event, UpdateRowsEvent):
                for row in event.rows:
                    yield row["before_values"]
                    yield row["after_values"]
            else:
                for row in event.rows:
                    yield row["values"]
    except pymysql.Error as error:
        if error.args and error.args[0] in _GONE:
            raise PositionLost(f"the binary log is not there any more ({error.args[0]})") from None
        raise
    finally:
        reader.close()


def _touches(query: Any, table: str) -> bool:
    text = query.decode("utf-8", "replace") if isinstance(query, bytes) else str(query)
    return _CHANGES.search(text) is not None and table.casefold() in text.casefold()


def _variables(run: Run) -> Mapping[str, str]:
    return {str(name).lower(): str(value) for name, value in run(_VARIABLES, {}).rows}


def _troubles(found: Mapping[str, str]) -> list[Obstacle]:
    """What the server's configuration keeps from us."""
    troubles: list[Obstacle] = []
    if found.get("log_bin", "OFF").upper() != "ON":
        words = Words("the server writes no binary log", "服务器未写 binlog")
        troubles.append(Obstacle(words, Words("log_bin in my.cnf, and a restart", "在 my.cnf 配置 log_bin 并重启")))
    elif found.get("binlog_format", "").upper() != "ROW":
        words = Words("the binary log holds statements, not rows", "binlog 记录语句而不是行")
        troubles.append(Obstacle(words, Words("binlog_format = ROW", "binlog_format = ROW")))
    for name in ("log_bin_compress", "binlog_transaction_compression"):
        if found.get(name, "OFF").upper() == "ON":
            words = Words(f"{name}: compressed rows cannot be read", f"{name}：无法读取压缩的行")
            troubles.append(Obstacle(words, Words(f"{name} = OFF", f"{name} = OFF")))
    return troubles


def _end(run: Run, found: Mapping[str, str]) -> tuple[str, int]:
    """The end of the log. Raises PositionLost when there is none."""
    version = found.get("version", "")
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    is_new = "mariadb" not in version.lower() and numbers >= [8, 4]
    rows = run("SHOW BINARY LOG STATUS" if is_new else "SHOW MASTER STATUS", {}).rows
    if not rows:
        raise PositionLost("the server writes no binary log")
    return str(rows[0][0]), int(rows[0][1])


def _seen_end(run: Run, found: Mapping[str, str]) -> tuple[str, int] | None:
    """MariaDB: the place in the log up to which everybody sees the rows now, which may be short of its end. The window
    that is read next holds all that stands before it. None where the server cannot say (MySQL)."""
    if "mariadb" not in found.get("version", "").lower():
        return None
    run("START TRANSACTION WITH CONSISTENT SNAPSHOT", {})
    try:
        rows = run("SHOW STATUS LIKE 'binlog_snapshot_%'", {}).rows
    finally:
        run("COMMIT", {})
    seen = {str(name).lower(): str(value) for name, value in rows}
    file, at = seen.get("binlog_snapshot_file", ""), seen.get("binlog_snapshot_position", "")
    return (file, int(at)) if file and at.isdigit() else None


def _server(found: Mapping[str, str]) -> Mapping[str, str]:
    names = ("server_uuid", "server_id", "hostname", "port", "gtid_binlog_pos")
    return {name: found.get(name, "") for name in names}


def _compare(position: Position, server: Mapping[str, str], file: str, at: int) -> None:
    """Raises PositionLost: another server (failover), or a log that was begun anew or put back."""
    before: Mapping[str, str] = position["server"]
    if any(before[name] != server[name] for name in before if name != "gtid_binlog_pos"):
        raise PositionLost("another server answers")
    if (_number(file), at) < (_number(position["file"]), position["at"]):
        raise PositionLost("the binary log has gone backwards")
    now = _sequences(server["gtid_binlog_pos"])
    if any(now.get(domain, 0) < sequence for domain, sequence in _sequences(before["gtid_binlog_pos"]).items()):
        raise PositionLost("the binary log was begun anew")


def _number(file: str) -> int:
    number = file.rpartition(".")[2]
    return int(number) if number.isdigit() else 0


def _sequences(text: str) -> Mapping[str, int]:
    """MariaDB: ``0-1-23`` is sequence 23 of domain 0."""
    found: dict[str, int] = {}
    for part in text.split(","):
        pieces = part.strip().split("-")
        if len(pieces) == 3 and pieces[2].isdigit():
            found[pieces[0]] = int(pieces[2])
    return found


def _names(spec: FeedSpec, run: Run) -> tuple[str, str]:
    """Database and table, as the log names them."""
    parts = [part.strip('`" ') for part in spec.table.split(".")]
    if len(parts) > 1:
        return parts[-2], parts[-1]
    return str(run("SELECT DATABASE()", {}).rows[0][0]), parts[-1]


def _key(run: Run, spec: FeedSpec) -> _Key | None:
    """Where the key stands; None where there is none, or one of a type that the log does not tell as SELECT does.

    Raises PositionLost for a table that is not there.
    """
    database, table = _names(spec, run)
    rows = run(_COLUMNS, {"db": database, "name": table}).rows
    if not rows:
        raise PositionLost("there is no such table, or no right to see it")
    wanted = spec.key.strip('`" ').casefold()
    for at, (name, kind, whole, charset) in enumerate(rows):
        if str(name).casefold() == wanted:
            bits = _BITS.get(str(kind).lower(), 0)
            is_text = str(kind).lower() in ("char", "varchar") and str(charset).lower() in _CHARSETS
            unsigned = bits if "unsigned" in str(whole).lower() else 0
            return _Key(at, len(rows), bits > 0, unsigned) if bits or is_text else None
    return None
