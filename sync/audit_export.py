"""Rows of the audit as others read them: a line of JSON, a message of syslog."""

from __future__ import annotations

import json
from typing import Final

from sync.audit_chain import AuditRow, values

# RFC 5424 §6.2.1: facility 13 "log audit"; severity 5 notice, 4 warning for what was refused or is not known.
_FACILITY: Final = 13
_NOTICE: Final = 5
_WARNING: Final = 4
# §6.3.2: name@number of an enterprise. 32473 is IANA's number for those without one of their own (RFC 5612).
_ELEMENT: Final = "his160@32473"
_BAD_RESULTS: Final = ("REJECTED", "UNKNOWN", "RETRYABLE", "refused", "failed")


def json_line(row: AuditRow) -> str:
    """All values of the row, and its hash in hexadecimal: enough to check the chain."""
    shown = {**values(row), "time": row.time.astimezone().isoformat(timespec="milliseconds"), "hash": row.hash.hex()}
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def syslog_message(row: AuditRow, *, host: str) -> str:
    """One message of RFC 5424, without framing. ``host``: the machine's name."""
    severity = _WARNING if row.entry.result.startswith(_BAD_RESULTS) else _NOTICE
    time = row.time.astimezone().isoformat(timespec="microseconds")
    procedure = _name(row.entry.action, 32)
    header = f"<{_FACILITY * 8 + severity}>1 {time} {_name(host, 255)} his160 - {procedure}"
    shown = {**values(row), "hash": row.hash.hex()}
    data = "".join(f' {name}="{_escaped(value)}"' for name, value in shown.items() if value not in ("", None))
    # §6.4: a text in UTF-8 begins with the byte order mark.
    text = " ".join(part for part in (row.entry.actor, row.entry.action, row.entry.target, row.entry.result) if part)
    return f"{header} [{_ELEMENT}{data}] \ufeff{_one_line(text)}"


def _name(text: str, length: int) -> str:
    """PRINTUSASCII of §6; "-" for nothing."""
    return "".join(char if "!" <= char <= "~" else "_" for char in text)[:length] or "-"


def _escaped(value: object) -> str:
    """§6.3.3: quotation mark, backslash and bracket are escaped in a value."""
    text = _one_line(str(value))
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
