"""What was given to others, for the audit: personal data in answers, events that a sink has stored.

网络数据安全管理条例 第十二条: who gives personal information to another processor keeps records of it for three years.
Commands and published reports are in the audit one by one; reads and events are counted, and noted every few minutes:
who got what, how often, of how many people, which fields, events of which orders. Never a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.message import Message
from his160.v1 import event_pb2, report_pb2

from sync.audit import Audit, Caller, as_json
from sync.redaction import may_be_personal, personal_names

FLUSH_EVERY: Final = timedelta(minutes=5)
ACTION: Final = "data.provided"
_KEYS_AT_ONCE: Final = 50  # keys of 64 characters fit into the parameters of an entry
_MOST_KEYS: Final = 10_000


@dataclass(slots=True)
class _Given:
    since: datetime
    calls: int = 0
    records: int = 0
    fields: set[str] = field(default_factory=set)
    keys: list[str] = field(default_factory=list)


class Provided:
    """Counts until ``note`` puts it into the audit. Called in the event loop."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._given: dict[tuple[str, str], _Given] = {}

    def answered(self, actor: str, operation: str, answer: Message) -> None:
        """An answer left. ``actor``: to whom."""
        if isinstance(answer, report_pb2.ReadReportResponse):
            self._add(actor, operation, len(answer.rows), {"rows"}, [answer.report.name] if answer.report.name else [])
        elif isinstance(answer, event_pb2.ReadEventsResponse):
            self.delivered(actor, answer.events)
        elif may_be_personal(answer.DESCRIPTOR):
            found = list(personal_names(answer))
            if found:
                self._add(actor, operation, len(found), {name for names in found for name in names}, [])

    def delivered(self, actor: str, events: Sequence[event_pb2.Event]) -> None:
        """Events were stored by a sink, or handed to a relay that dialled in."""
        for event in events:
            kind = event_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_")
            key = event.order_no or event.schedule_id or event.report.run_id
            self._add(actor, f"event.{kind}", 1, set(), [key])

    def note(self) -> None:
        """Hand what was counted to the audit, which writes it at its next flush."""
        given, self._given = self._given, {}
        for (actor, operation), item in given.items():
            for keys in _parts(item.keys):
                parameters = as_json(
                    calls=item.calls,
                    records=item.records,
                    fields=sorted(item.fields),
                    keys=keys,
                    since=item.since.isoformat(timespec="seconds"),
                )
                self._audit.note(ACTION, target=operation, result="given", parameters=parameters, caller=Caller(actor))

    def _add(self, actor: str, operation: str, records: int, names: set[str], keys: list[str]) -> None:
        given = self._given.get((actor, operation))
        if given is None:
            given = self._given[actor, operation] = _Given(self._audit.now())
        given.calls += 1
        given.records += records
        given.fields |= names
        given.keys += keys
        if len(given.keys) >= _MOST_KEYS:
            self.note()


def _parts(keys: list[str]) -> Iterator[list[str]]:
    """Some keys at a time; one empty part of none."""
    yield keys[:_KEYS_AT_ONCE]
    for at in range(_KEYS_AT_ONCE, len(keys), _KEYS_AT_ONCE):
        yield keys[at : at + _KEYS_AT_ONCE]
