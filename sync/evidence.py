"""What is known of an order, put together for a person: ledger, money, events, and what the HIS says now."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from google.protobuf.message import Message
from his160.v1 import appointment_pb2, reason_pb2

from his_db.errors import HisError, HisRefused, OperationNotMapped
from sync.audit_chain import AuditRow
from sync.clock import Clock
from sync.command_entry import GET_APPOINTMENT
from sync.commands import COMMANDS
from sync.money_book import RefundRow, SettlementRow
from sync.outbox import lane_of_order
from sync.redaction import without_personal
from sync.store import CommandRow, CommandState, EventRow, Store, Transaction

DECIDED: Final = "ledger.decide"
"""The action under which the audit keeps a person's decision."""

_LIMIT: Final = timedelta(seconds=10)  # for one read
_MOST: Final = 200


class ReadPort(Protocol):
    """Reads the HIS. Raises the errors of ``his_db.errors``."""

    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message: ...


@dataclass(frozen=True, slots=True)
class Word:
    """What one read said. ``answer`` None: there is no such thing, or, with ``error``, it could not be asked."""

    operation: str
    request: Message
    answer: Message | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything about one order, or about one command without an order. ``words`` is empty when nobody was asked."""

    key: str
    rows: Sequence[CommandRow]
    settlements: Sequence[SettlementRow]
    refunds: Sequence[RefundRow]
    events: Sequence[EventRow]
    decisions: Sequence[AuditRow]
    words: Sequence[Word]
    taken: datetime

    def row(self, request_id: str) -> CommandRow | None:
        """A row by its request_id."""
        return next((row for row in self.rows if row.request_id == request_id), None)

    def word(self, operation: str) -> Message | None:
        """What a read answered; None when it was not asked, refused, or knows no such thing."""
        return next((word.answer for word in self.words if word.operation == operation and word.answer), None)

    @property
    def digest(self) -> str:
        """16 hex digits that change when any of it changes, whenever it is taken."""
        found = hashlib.sha256()
        for part in self._parts():
            found.update(len(part).to_bytes(8) + part)
        return found.hexdigest()[:16]

    def _parts(self) -> Iterator[bytes]:
        for row in self.rows:  # not the probes: the agent asks again every few seconds
            yield f"{row.request_id} {row.state.value} {row.attempt} {row.reason}".encode()
        for settlement in self.settlements:
            yield f"{settlement.key} {settlement.state.value} {settlement.setl_id}".encode()
        for refund in self.refunds:
            yield f"{refund.out_refund_no} {refund.state.value} {refund.amount_fen}".encode()
        for event in self.events:
            yield event.event_id.encode()
        for word in self.words:
            said = b"" if word.answer is None else word.answer.SerializeToString(deterministic=True)
            yield word.operation.encode() + b"\0" + said + b"\0" + word.error.encode()


async def collect(store: Store, his: ReadPort | None, wanted: str, clock: Clock) -> Evidence | None:
    """The evidence of an order number or of a request_id; None when the ledger has neither. ``his`` None: not asked.

    Raises StoreError.
    """

    def unit(transaction: Transaction) -> Evidence | None:
        row = transaction.commands.get(wanted)
        key = row.order_key if row is not None else wanted
        rows = list(transaction.commands.of_order(key))
        if not rows and row is not None:  # a patient's record has no order
            rows = [row]
        if not rows:
            return None
        trades = sorted({_number(found, "out_trade_no") for found in rows} - {""})
        return Evidence(
            key=key or rows[0].natural_key,
            rows=rows,
            settlements=transaction.settlements.of_order(key) if key else (),
            refunds=[refund for trade in trades for refund in transaction.refunds.of_trade(trade)],
            events=transaction.events.of_lane(lane_of_order(key), _MOST) if key else (),
            decisions=transaction.audit.newest(_MOST, action=DECIDED, target=key) if key else (),
            words=(),
            taken=clock(),
        )

    found = await store.read(unit)
    if found is None or his is None:
        return found
    words = [await _asked(his, operation, request) for operation, request in _questions(found)]
    return Evidence(
        found.key,
        found.rows,
        found.settlements,
        found.refunds,
        found.events,
        found.decisions,
        [word for word in words if word is not None],
        found.taken,
    )


def _questions(found: Evidence) -> Iterator[tuple[str, Message]]:
    """The order itself, and every probe of every command of it, each once."""
    asked: set[tuple[str, bytes]] = set()
    order_no = next((row.order_key for row in found.rows if row.order_key), "")
    questions: list[tuple[str, Message]] = []
    if order_no:
        questions.append((GET_APPOINTMENT, appointment_pb2.GetAppointmentRequest(order_no=order_no)))
    for row in found.rows:
        command = COMMANDS.get(row.operation)
        if command is None or row.state is CommandState.RETRYABLE:
            continue
        request = command.request_class.FromString(row.request)
        questions += [(probe.operation, probe.request(request)) for probe in command.probes]
    for operation, request in questions:
        key = (operation, request.SerializeToString(deterministic=True))
        if key not in asked and key[1]:
            asked.add(key)
            yield operation, request


async def _asked(his: ReadPort, operation: str, request: Message) -> Word | None:
    """None for a read that the site does not map."""
    try:
        answer = await his.read(operation, request, deadline=time.monotonic() + _LIMIT.total_seconds())
    except OperationNotMapped:
        return None
    except HisRefused as error:
        name = reason_pb2.Reason.Name(error.reason).removeprefix("REASON_")
        return Word(operation, without_personal(request), None, "" if name.endswith("_NOT_FOUND") else name)
    except HisError as error:
        return Word(operation, without_personal(request), None, error.detail)
    return Word(operation, without_personal(request), answer)


def _number(row: CommandRow, kind: str) -> str:
    """A business number of a row: of its natural key, or of its request."""
    name, _, value = row.natural_key.partition(":")
    if name == kind:
        return value
    command = COMMANDS.get(row.operation)
    if command is None:
        return ""
    request: Any = command.request_class.FromString(row.request)
    return str(getattr(request, kind, ""))
