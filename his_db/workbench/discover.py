"""Which table of an unknown HIS is which record of the contract: names, comments and pinyin initials, scored.

A suggestion, never a decision: the confidence says how much of what such a record usually has was found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from his_db.catalogue.model import Catalogue, Column, Routine, Table
from his_db.workbench.vocabulary import SUBJECTS, Subject, Terms

_NAME: Final = 0.4  # share of a table's name and comment in its confidence; the rest is its columns
_WORD: Final = re.compile(r"[a-z]+|[0-9]+")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # ScheduId is two words
_PREFIX: Final = re.compile(r"^(?:p|v|o|i|in|out|@)_?(?=[a-z]{3,})")
# Which procedure does what, by pieces of its name: pinyin initials and English.
_ROUTINES: Final = {
    "AppointmentService.LockSlot": "lockno sdhy suohao sh_lock hysd lock",
    "AppointmentService.UnlockSlot": "unlockno jshy qxsd hyjs unlock",
    "AppointmentService.BookAppointment": "yysq yydj yygh yytj book appt",
    "AppointmentService.CancelAppointment": "yyqx qxyy cancel",
    "PaymentService.ConfirmPayment": "zfhx ghjs zfqr jfqr ghsf pay settle",
    "PaymentService.RefundPayment": "thtf ghtf tfqr thqr tuihao refund",
    "PatientService.EnsurePatient": "jbxxdj brjd hzjd jdxx brdj register",
}


@dataclass(frozen=True, slots=True)
class FieldMatch:
    """A column that probably is a field. `confidence` from 0 to 1; `why`: name, pinyin, comment, ending."""

    field: str
    column: str
    type: str
    confidence: float
    why: str


@dataclass(frozen=True, slots=True)
class TableMatch:
    """A table that probably holds a subject."""

    subject: str
    table: str
    kind: str
    comment: str
    confidence: float
    fields: tuple[FieldMatch, ...]


@dataclass(frozen=True, slots=True)
class RoutineMatch:
    """A procedure that probably does an operation."""

    operation: str
    routine: str
    comment: str
    confidence: float


def discover(catalogue: Catalogue, *, top: int = 3) -> dict[str, tuple[TableMatch, ...]]:
    """For each subject the best tables, best first."""
    found: dict[str, tuple[TableMatch, ...]] = {}
    for name, subject in SUBJECTS.items():
        matches = [_table(name, subject, table) for table in catalogue.tables.values()]
        good = [match for match in matches if match.confidence >= 0.15]
        good.sort(key=lambda match: _rank(match, catalogue))
        found[name] = tuple(good[:top])
    return found


def _rank(match: TableMatch, catalogue: Catalogue) -> tuple[float, bool, bool, str]:
    """Best first; our own schema before others; a table before a view of it, for it can be indexed and written."""
    schema = match.table.rpartition(".")[0].lower()
    is_foreign = schema not in {name.lower() for name in catalogue.login.search}
    return -match.confidence, is_foreign, match.kind == "view", match.table


def discover_routines(catalogue: Catalogue, *, top: int = 3) -> dict[str, tuple[RoutineMatch, ...]]:
    """For each writing operation the best procedures, best first."""
    found: dict[str, tuple[RoutineMatch, ...]] = {}
    for operation, pieces in _ROUTINES.items():
        matches = [
            RoutineMatch(operation, str(key), routine.comment, score)
            for key, routines in catalogue.routines.items()
            for routine in routines[:1]
            if (score := _routine(routine, pieces.split())) > 0
        ]
        matches.sort(key=lambda match: (-match.confidence, match.routine))
        found[operation] = tuple(matches[:top])
    return found


def _routine(routine: Routine, pieces: list[str]) -> float:
    name = routine.name.lower()
    hits = [1 - 0.1 * at for at, piece in enumerate(pieces) if _holds(name, piece)]
    if not hits or (routine.kind == "function" and not routine.comment and name.startswith("fn_")):
        return 0.0
    return round(0.9 * max(0.3, *hits), 2)


def _holds(name: str, piece: str) -> bool:
    at = name.find(piece)
    # `lockno` is not meant by `unlockno`.
    return at >= 0 and not (piece.startswith("lock") and name[max(0, at - 2) : at] == "un")


def match_fields(subject: str, columns: Iterable[Column]) -> tuple[FieldMatch, ...]:
    """For each field of the subject the best column; a column serves one field only, the surest first."""
    scored = [
        (score, field, column, why)
        for field, terms in SUBJECTS[subject].fields.items()
        for column in columns
        for score, why in (score_column(terms, column.name, column.comment),)
        if score > 0 and not _is_name_of(field, column.name)
    ]
    scored.sort(key=lambda item: (-item[0], item[2].name))
    fields: set[str] = set()
    used: set[str] = set()
    found: list[FieldMatch] = []
    for score, field, column, why in scored:
        if field not in fields and column.name not in used:
            fields.add(field)
            used.add(column.name)
            found.append(FieldMatch(field, column.name, column.type, score, why))
    order = list(SUBJECTS[subject].fields)
    return tuple(sorted(found, key=lambda match: order.index(match.field)))


def _is_name_of(field: str, column: str) -> bool:
    """NAME_EMP is no key of a doctor."""
    return field.endswith("_id") and "name" in _WORD.findall(_HUMP.sub("_", column).lower())


def score_column(terms: Terms, name: str, comment: str) -> tuple[float, str]:
    """How well a column fits, from 0 to 1, and why."""
    folded = name.lower()
    codes = terms.pinyin.split()
    if any(word in comment for word in terms.chinese.split()):
        return 0.95, "comment"
    bare = _PREFIX.sub("", folded.lstrip("@"))
    for at, code in enumerate(codes):
        if folded == code or bare == code:
            # The first names of a list are the usual ones; `id` and `name` say little by themselves.
            return (0.6 if code in {"id", "name", "mc", "xm"} else round(0.95 - 0.01 * at, 2)), "pinyin"
    words = set(_WORD.findall(_HUMP.sub("_", name).lower()))
    for group in terms.english.split():
        wanted = group.split("+")
        if all(any(part == word or (len(part) > 3 and part in word) for word in words) for part in wanted):
            return (0.8 if len(wanted) > 1 else 0.7), "name"
    if any(len(code) >= 4 and folded.endswith(code) for code in codes):
        return 0.5, "ending"
    return 0.0, ""


def _table(name: str, subject: Subject, table: Table) -> TableMatch:
    fields = match_fields(name, table.columns)
    weights = {field: terms.weight for field, terms in subject.fields.items()}
    got = sum(weights[match.field] * match.confidence for match in fields)
    by_columns = min(1.0, got / (0.6 * sum(weights.values())))
    confidence = (1 - _NAME) * by_columns + _NAME * _name_score(subject, table)
    full = f"{table.schema}.{table.name}" if table.schema else table.name
    return TableMatch(name, full, table.kind, table.comment, round(min(0.99, confidence), 2), fields)


def _name_score(subject: Subject, table: Table) -> float:
    folded = table.name.lower()
    if any(word in table.comment for word in subject.chinese.split()):
        return 1.0
    good = any(piece in folded for piece in subject.tables.split())
    bad = any(piece in folded for piece in subject.not_tables.split())
    return (1.0 if good else 0.0) - (0.5 if bad else 0.0)
