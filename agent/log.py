"""Logs of the process: one line a record, JSON or text, rotated, without personal data.

What protects patients here: messages of the contract are never logged, except through ``redact``, which reads the
``debug_redact`` option of each field; and the text of an exception is never printed with its trace, because drivers and
converters put values into it. A trace shows types, files and lines.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from agent.config import LogSettings
from agent.log_file import RotatedFile
from his_db.contract import is_free_text, is_map, is_personal

REDACTED: Final = "[redacted]"
_FRAMES: Final = 12  # of one trace
_CHAIN: Final = 5  # causes of one error
_STANDARD: Final = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))


def redact(message: Message) -> str:
    """A message on one line, with ``[redacted]`` for personal data and free text. The only way into a log."""
    return "{" + ", ".join(f"{f.name}: {_shown(f, value)}" for f, value in message.ListFields()) + "}"


def frames(error: BaseException) -> str:
    """A trace on one line: types, files, lines and functions of an error and its causes, without their texts."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(parts) < _CHAIN:
        seen.add(id(current))
        parts.append(f"{type(current).__module__}.{type(current).__qualname__} at {_trace(current.__traceback__)}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return " <- ".join(parts)


class PlainFormatter(logging.Formatter):
    """Text for people: time with zone, level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_stamp(record)} {record.levelname:<7} {record.name}: {_message(record)}"
        line += "".join(f" {name}={value}" for name, value in _extras(record).items())
        trace = _record_trace(record)
        return f"{line} | {trace}" if trace else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for collectors."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_extras(record),
        }
        trace = _record_trace(record)
        if trace:
            entry["trace"] = trace
        return json.dumps(entry, ensure_ascii=False)


def setup_logging(settings: LogSettings) -> None:
    """Send all records of the process to the console or to the rotated file. Replaces what was set up before."""
    formatter = JsonFormatter() if settings.format == "json" else PlainFormatter()
    handler = _file_handler(settings, settings.file) if settings.file is not None else logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    # These say at INFO what is our business or nobody's.
    for name in ("apscheduler", "sqlalchemy", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    # A record that cannot be written must not print its arguments to stderr.
    logging.raiseExceptions = False


def _file_handler(settings: LogSettings, path: Path) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    return RotatedFile(path, max_bytes=settings.max_bytes, backups=settings.backups)


def _stamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).astimezone().isoformat(timespec="milliseconds")


def _message(record: logging.LogRecord) -> str:
    """The message on one line: text of a peer must not forge a record of its own."""
    return _flat(record.getMessage())


def _extras(record: logging.LogRecord) -> dict[str, str | int | float | bool]:
    """What the caller gave as ``extra``: numbers and short texts; it answers for their being free of personal data."""
    found: dict[str, str | int | float | bool] = {}
    for name, value in vars(record).items():
        if name not in _STANDARD:
            found[name] = value if isinstance(value, int | float) else _flat(str(value))
    return found


def _flat(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _record_trace(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    return frames(record.exc_info[1])


def _trace(trace: TracebackType | None) -> str:
    found = traceback.extract_tb(trace)[-_FRAMES:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in found) or "?"


def _shown(field: FieldDescriptor, value: Any) -> str:
    if is_personal(field) or is_free_text(field):
        return REDACTED
    if is_map(field):
        # A map's values are of the peer's choice; their count is enough.
        return f"<{len(value)} entries>"
    if field.is_repeated:
        return "[" + ", ".join(_single(field, item) for item in value) + "]"
    return _single(field, value)


def _single(field: FieldDescriptor, value: object) -> str:
    if isinstance(value, Message):
        return redact(value)
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if field.enum_type is not None and isinstance(value, int):
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else str(value)
    return json.dumps(value, ensure_ascii=False)


def utc_now() -> datetime:
    """The clock of the process."""
    return datetime.fromtimestamp(time.time(), UTC)
