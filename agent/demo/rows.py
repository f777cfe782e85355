"""What changed in the HIS tables between two looks: rows and columns, without a patient's values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from his_db.sample import HisRow

MASK: Final = "***"
# Columns of the two sample HIS that tell who the patient is, or what opens the order for somebody else.
_PERSONAL: Final = frozenset(
    {
        *("NAME_PI", "PY_CODE", "ID_NO", "MOBILE", "ADDRESS", "BIRTH_DATE", "CODE_PI", "CODE_OP", "CODE_APPT"),
        *("hzxm", "py", "wb", "sfzh", "lxdh", "lxdz", "birth", "blh", "cardno", "jhrxm", "jhrsfzh", "pzh"),
    }
)
# Set by every write, and says nothing that the row's other columns do not say.
_NOISE: Final = frozenset({"TS", "gxrq"})
_KEY: Final = re.compile(r"[0-9A-F]{32}")
_WIDEST: Final = 40
_NEW_COLUMNS: Final = 10
# What a DBA looks at first in a new row: state, whose order, payment numbers, money, which row it cancels.
_FIRST: Final = (
    *("EU_STATUS", "DT_STTYPE", "FLAG_PAY", "EU_DIRECT", "ORDERID_EXT", "OUT_TRADE_NO", "REFUND_NO", "PK_SETTLE_CANC"),
    *("jlzt", "txh", "wbddh", "zph", "jylsh", "tkdh", "tsjh", "zje", "czyh"),
)
_VOID: Final = frozenset({"", "0", "NULL", "0.00"})


@dataclass(frozen=True, slots=True)
class RowChange:
    """One HIS row: ``kind`` is ``new``, ``changed`` or ``gone``; ``columns`` are (name, before, after) as shown."""

    table: str
    key: str
    kind: str
    columns: tuple[tuple[str, str, str], ...]


def difference(before: Sequence[HisRow], after: Sequence[HisRow]) -> list[RowChange]:
    """Rows that are new, changed or gone, in the order of the tables. A row's key is its first column."""
    old, new = _by_key(before), _by_key(after)
    found = []
    for place, row in new.items():
        table, key = place
        if place not in old:
            found.append(RowChange(table, key, "new", _of_new(row)))
            continue
        columns = tuple(
            (name, shown(name, old[place].get(name)), shown(name, value))
            for name, value in row.items()
            if value != old[place].get(name) and name not in _NOISE
        )
        if columns:
            found.append(RowChange(table, key, "changed", columns))
    found += [RowChange(table, key, "gone", ()) for table, key in old if (table, key) not in new]
    return found


def shown(name: str, value: object) -> str:
    """A value for a person: NULL, shortened keys, masked when it is personal."""
    if value is None:
        return "NULL"
    if name in _PERSONAL:
        return MASK
    text = str(value).rstrip()
    if _KEY.fullmatch(text):
        return f"{text[:6]}…"
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _of_new(row: dict[str, object]) -> tuple[tuple[str, str, str], ...]:
    """The columns of a new row that tell something: neither empty, nor a mere key, nor personal."""
    telling = []
    for name, value in list(row.items())[1:]:
        text = shown(name, value)
        if text == "NULL" or text == MASK or name in _NOISE:
            continue
        if name not in _FIRST and (text in _VOID or text.endswith("…")):
            continue
        telling.append((name, "", text))
    telling.sort(key=lambda column: _FIRST.index(column[0]) if column[0] in _FIRST else len(_FIRST))
    return tuple(telling[:_NEW_COLUMNS])


def _by_key(rows: Sequence[HisRow]) -> dict[tuple[str, str], dict[str, object]]:
    found = {}
    for table, row in rows:
        first = next(iter(row.items()), ("", ""))
        found[table, shown(*first)] = row
    return found
