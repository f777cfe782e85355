"""What the error numbers of 达梦 DM8 mean.

The numbers and their meanings are those of the message table inside dmPython 2.6.1's own client library (2,708 numbers
of the server, 123 of the driver), read out on 2026-11-28. -2501 is not in it; public reports of logins refused by real
servers name it. Whether a server tells each situation by that number has not been seen here: no server was at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from his_db.engine import Fault

_NUMBERS: Final[Mapping[Fault, str]] = {
    # 7061, 7066, 7067: another transaction was faster; 7184: an object was recompiled; 6543: "try again".
    Fault.DEADLOCK: "6403 6405 6543 7061 7066 7067 7184",
    Fault.LOCK_TIMEOUT: "6401 6402 6407 6409 6413 6414 6415 6503 6509",
    Fault.TIMEOUT: "6515 7049 7110 7120",  # 7120: the undo that the statement needs is gone
    Fault.CONSTRAINT: "6601 6602 6603 6604 6605 6606 6607 6608 6609 6610 6611 6612 6614 6628",
    Fault.CONNECT: """
        2501 6001 6002 6003 6004 6011 6012 6015 6016 6017 6019 6024 6026 6027 6028 6032 6540 70024 70028 70030 70070
        70073 70089 70090 70092 70093 70094 70096 70116 70117
    """,
    Fault.LOST: """
        6006 6007 6008 6009 6010 6020 6021 6029 6033 6037 6507 6508 7002 70019 70020 70022 70025 70065 70066 70068 70069
        70082 70083 70101 70105
    """,
    Fault.RIGHTS: "5204 5203 7072",
    Fault.READ_ONLY: "6506 7128",
    Fault.SCHEMA: """
        2099 7001 7006 7008 7009 7016 7017 7018 7019 7020 7021 7022 7040 7044 7077 7086 7097 7098 7117 7149 70033 70038
        70039 70040 70062 70063
    """,
    Fault.SYNTAX: "2001 2002 2003 2004 2005 2006 2007 2048 70104",
    Fault.DATA: "7046 7065 7069 7070 7081 70005 70060 70119 70120 70121 70122",
}
_RANGES: Final = (
    (Fault.RIGHTS, range(5501, 5741)),  # every one of them is a privilege that is missing
    (Fault.SCHEMA, range(2100, 2220)),  # invalid names: user, schema, table, column, procedure, parameter …
    (Fault.DATA, range(6101, 6203)),  # conversions, overflow, text too long
    (Fault.DATA, range(70006, 70017)),
)
_FAULTS: Final[Mapping[int, Fault]] = {
    **{number: fault for fault, numbers in _RANGES for number in numbers},
    **{int(number): fault for fault, numbers in _NUMBERS.items() for number in numbers.split()},
}
_RAISED: Final = range(-30000, -19999)  # RAISE_APPLICATION_ERROR
# What an operator meets most, in words of our own: the server's sentences may hold values.
_WORDS: Final[Mapping[int, str]] = {
    2007: "syntax error",
    2104: "no such table",
    2106: "no such table or view",
    2111: "no such column",
    2118: "no such procedure or function",
    2119: "no such procedure or function",
    2207: "no such member (column, package procedure)",
    2501: "user name or password refused",
    5504: "no right to SELECT",
    5505: "no right to EXECUTE",
    6001: "too many sessions on the server",
    6002: "too many sessions of this user",
    6108: "text too long for its column",
    6403: "deadlock",
    6407: "lock time-out",
    6506: "read-only transaction",
    6515: "cancelled",
    6602: "unique constraint",
    6607: "foreign key",
    6609: "NOT NULL",
    7049: "statement time-out",
    70019: "network failure",
    70028: "no connection to host and port",
    70089: "the driver's encryption library cannot be loaded: put the folder dmssl beside dmPython into LD_LIBRARY_PATH"
    " (Windows: PATH) before the service starts",
}


def number_of(error: BaseException) -> int:
    """DM's number in an exception of dmPython; 0: none. It sits in a record, which the driver uses again."""
    inner: Any = error.args[0] if error.args else None
    number = getattr(inner, "code", 0)
    return number if isinstance(number, int) else 0


def fault_of(number: int) -> Fault:
    """What the number means. A number of the driver itself that nobody knows: the connection is not to be trusted."""
    if number in _RAISED:
        return Fault.CONSTRAINT
    return _FAULTS.get(-number, Fault.LOST if -71000 < number <= -70000 else Fault.OTHER)


def words_of(number: int) -> str:
    """`CODE -6403 deadlock`."""
    return f"CODE {number} {_WORDS.get(-number, '')}".rstrip()


def sentence_of(error: BaseException) -> str:
    """The text of RAISE_APPLICATION_ERROR; empty for everything else."""
    inner: Any = error.args[0] if error.args else None
    return str(getattr(inner, "message", "")) if number_of(error) in _RAISED else ""
