"""The command ledger: what was asked, what was sent, what became of it. The rules, over the store's rows.

A row is made in state SENT by the same commit that admits the command, so that nothing reaches the HIS that the ledger
does not know. (A state before it would cost a second fsync and decide nothing.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from google.protobuf.message import Message
from his160.v1 import appointment_pb2, common_pb2, reason_pb2

from his_db.errors import HisError, HisRefused, OutcomeUnknown
from sync import foresight, order
from sync.audit import Audit, as_json, masked
from sync.audit_chain import AuditEntry
from sync.clock import Clock
from sync.command_entry import Command
from sync.commands import COMMANDS
from sync.reasons import TRANSIENT
from sync.redaction import without_personal
from sync.store import CommandRow, CommandState, Store, Transaction

# A command sent shortly before the row was last looked at may still be what the next look shows.
_ECHO_OVERLAP = timedelta(minutes=1)
# Kinds of natural keys by which a payment house or 医保 calls back.
_OUTER_NUMBERS = ("out_trade_no", "out_refund_no", "pay_order_id", "hospital_order_no")


@dataclass(frozen=True, slots=True)
class Send:
    """Go: the row is on disk in state SENT. ``known``: the state in which our own commands left the order."""

    row: CommandRow
    known: order.State | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """There is an answer already: DONE or REJECTED."""

    row: CommandRow


@dataclass(frozen=True, slots=True)
class Blocked:
    """These rows must be resolved first: this very request's, or others of the same order or number."""

    rows: Sequence[CommandRow]


Admission = Send | Answered | Blocked


class Ledger:
    """The ledger in a store. Methods raise StoreError; then nothing was kept."""

    def __init__(
        self, store: Store, clock: Clock, *, revision: Callable[[], str] = lambda: "", audit: Audit | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self.revision = revision
        self._audit = audit or Audit(store, clock)

    async def admit(
        self, command: Command, request: Message, request_id: str, payload_hash: bytes, *, saga: str = ""
    ) -> Admission:
        """Decides about a request and, for ``Send``, makes its row; all in one commit. ``saga``: what it would run as.

        Raises HisRefused: the request_id or the business number came before with another content, or the first answer
        to it no longer holds.
        """
        now = self._clock()
        fresh = CommandRow(
            request_id=request_id,
            operation=command.operation,
            payload_hash=payload_hash,
            essence_hash=command.essence_hash(request),
            order_key=command.order_key(request),
            natural_key=command.natural(request),
            state=CommandState.SENT,
            received_time=now,
            sent_time=now,
            request=without_personal(request, keep=command.keeps).SerializeToString(deterministic=True),
            mapping_revision=self.revision(),
            step=saga,
        )
        return await self._store.write(lambda transaction: _admit(transaction, command, fresh))

    async def get(self, request_id: str) -> CommandRow | None:
        return await self._store.read(lambda transaction: transaction.commands.get(request_id))

    async def open(self, limit: int) -> Sequence[CommandRow]:
        """Rows whose outcome is not known (or under way), those probed least first."""
        return await self._store.read(lambda transaction: transaction.commands.open(limit))

    async def open_of_number(self, number: str) -> Sequence[CommandRow]:
        """Open commands that a number of the payment house or of 医保 belongs to, and those of its order."""

        def unit(transaction: Transaction) -> Sequence[CommandRow]:
            keys = [f"{name}:{number}" for name in _OUTER_NUMBERS]
            orders = {row.order_key for row in transaction.commands.of_natural_keys(keys)}
            found = [transaction.commands.open_of(order_key, "") for order_key in sorted(orders)]
            found += [transaction.commands.open_of("", key) for key in keys]
            return list({row.request_id: row for rows in found for row in rows}.values())

        return await self._store.read(unit)

    async def listed(self, state: CommandState, limit: int = 200) -> Sequence[CommandRow]:
        """Rows of a state, oldest first: the evidence for a person."""
        return await self._store.read(lambda transaction: transaction.commands.listed(state, limit))

    async def counts(self) -> Mapping[CommandState, int]:
        return await self._store.read(lambda transaction: transaction.commands.counts())

    async def advance(
        self, row: CommandRow, following: CommandRow, also: Callable[[Transaction], object] | None = None
    ) -> CommandRow:
        """Puts ``following`` in the place of ``row`` if that is still what the ledger holds; what it holds then.

        Another state goes into the audit with the same commit, and so does what ``also`` changes.
        """
        now = self._clock()
        entry = None if following.state is row.state else self._outcome(row, following, now)

        def unit(transaction: Transaction) -> CommandRow:
            current = transaction.commands.get(row.request_id)
            if current is not None and (current.state, current.attempt) != (row.state, row.attempt):
                return current
            transaction.commands.put(following)
            if entry is not None:
                transaction.audit.append(entry, now)
            if also is not None:
                also(transaction)
            return following

        return await self._store.write(unit)

    async def interrupt(self) -> int:
        """At start-up: what was SENT when the process ended is UNKNOWN. The number of such rows."""
        now = self._clock()
        detail = "the agent stopped before the answer came"
        entry = self._audit.entry("ledger.interrupt", result=CommandState.UNKNOWN.value)

        def unit(transaction: Transaction) -> int:
            interrupted = transaction.commands.interrupt_sent(now, detail)
            if interrupted:
                transaction.audit.append(replace(entry, parameters=as_json(commands=interrupted)), now)
            return interrupted

        return await self._store.write(unit)

    async def prune(self, keep: timedelta) -> int:
        """Deletes answered commands that ended longer ago than ``keep``, as many as go in one unit.

        A later repetition of them runs anew.
        """
        before = self._clock() - keep
        return await self._store.write(lambda transaction: transaction.commands.prune(before))

    def done(self, row: CommandRow, response: Message) -> CommandRow:
        if COMMANDS[row.operation].seals:
            response = without_personal(response)
        result = response.SerializeToString(deterministic=True)
        return replace(self._ended(row, CommandState.DONE), result=result, reason=0, detail="")

    def rejected(self, row: CommandRow, reason: int, detail: str) -> CommandRow:
        return replace(self._ended(row, CommandState.REJECTED), reason=reason, detail=detail)

    def retryable(self, row: CommandRow, reason: int, detail: str) -> CommandRow:
        return replace(self._ended(row, CommandState.RETRYABLE), reason=reason, detail=detail)

    def unknown(self, row: CommandRow, detail: str) -> CommandRow:
        return replace(
            row,
            state=CommandState.UNKNOWN,
            reason=reason_pb2.REASON_OUTCOME_UNKNOWN,
            detail=detail,
            finished_time=self._clock(),
        )

    def after_error(self, row: CommandRow, error: HisError) -> CommandRow:
        """The row after a write that ended with the error: UNKNOWN, REJECTED or RETRYABLE."""
        reason = error.reason
        if isinstance(error, OutcomeUnknown) or reason == reason_pb2.REASON_OUTCOME_UNKNOWN:
            return self.unknown(row, error.detail)
        if isinstance(error, HisRefused) and reason not in TRANSIENT:
            return self.rejected(row, reason, error.detail)
        return self.retryable(row, reason, error.detail)

    def probed(self, row: CommandRow, detail: str) -> CommandRow:
        """Still not known after one more probe."""
        since = row.finished_time or self._clock()
        state = CommandState.UNKNOWN
        return replace(row, state=state, probes=row.probes + 1, detail=detail, finished_time=since)

    def _outcome(self, row: CommandRow, following: CommandRow, now: datetime) -> AuditEntry:
        """What the audit says of a command that came to another state."""
        reason = ""
        if following.reason:
            reason = reason_pb2.Reason.Name(reason_pb2.Reason.ValueType(following.reason)).removeprefix("REASON_")
        return self._audit.entry(
            row.operation,
            target=row.order_key,
            result=f"{following.state.value} {reason}".rstrip(),
            parameters=masked(COMMANDS[row.operation].request_class.FromString(following.request)),
            digest=row.payload_hash,
            duration=now - row.sent_time,
            mapping_revision=row.mapping_revision,
        )

    def _ended(self, row: CommandRow, state: CommandState) -> CommandRow:
        """The row at its end: what was kept for the probe alone goes."""
        request = COMMANDS[row.operation].request_class.FromString(row.request)
        evidence = without_personal(request).SerializeToString(deterministic=True)
        return replace(row, state=state, request=evidence, finished_time=self._clock())


def _admit(transaction: Transaction, command: Command, fresh: CommandRow) -> Admission:
    commands = transaction.commands
    known = commands.get(fresh.request_id)
    if known is not None:
        if (known.operation, known.payload_hash) != (fresh.operation, fresh.payload_hash):
            raise HisRefused(reason_pb2.REASON_REQUEST_ID_REUSED, "the request_id came before with another request")
        if known.state in (CommandState.DONE, CommandState.REJECTED):
            return Answered(known)
        fresh = replace(fresh, attempt=known.attempt + 1, probes=known.probes, received_time=known.received_time)
    open_rows = commands.open_of(fresh.order_key, fresh.natural_key)
    if open_rows:
        return Blocked(open_rows)
    twin = commands.done_by_natural_key(command.operation, fresh.natural_key) if command.replays else None
    if twin is not None and not _is_undone(transaction, command, twin):
        if twin.essence_hash != fresh.essence_hash:
            raise HisRefused(command.conflict, "the business number came before with another content")
        state = CommandState.DONE
        fresh = replace(
            fresh, state=state, result=twin.result, replay_of=twin.request_id, finished_time=fresh.sent_time
        )
        commands.put(fresh)
        return Answered(fresh)
    commands.put(fresh)
    checked = command.order_command in foresight.CHECKED
    return Send(fresh, foresight.last_state(commands.of_order(fresh.order_key)) if checked else None)


def _is_undone(transaction: Transaction, command: Command, twin: CommandRow) -> bool:
    """Whether a later command took back what the twin did. Raises HisRefused where that must not be done again."""
    end = twin.finished_time or twin.sent_time
    for row in transaction.commands.of_order(twin.order_key):
        later = row.finished_time is not None and row.finished_time >= end and not row.replay_of
        if row.operation in command.undone_by and row.state is CommandState.DONE and later:
            if command.undone_reason:
                raise HisRefused(command.undone_reason, "a later command took back what this one did")
            return True
    return False


def _registered_at_once(row: CommandRow, effect: order.OrderCommand) -> tuple[order.OrderCommand, ...]:
    """预约即挂号: a booking that the HIS answered with PAID has paid as well. One that is not known is not believed."""
    if effect is not order.OrderCommand.BOOK or row.state is not CommandState.DONE:
        return ()
    answer = appointment_pb2.BookAppointmentResponse.FromString(row.result)
    return (order.OrderCommand.PAY,) if answer.appointment.state == order.PAID else ()


def explains(
    transaction: Transaction, before: common_pb2.Appointment | None, after: common_pb2.Appointment, since: datetime
) -> bool:
    """Whether commands of ours alone account for a change of an order that was last seen changed at ``since``.

    Counts commands that were done or may have been (SENT, DONE, UNKNOWN) and were not sent long before ``since``.
    """
    ours = _ours(transaction, after.order_no, since)
    return order.explains(ours, order.NONE if before is None else before.state, after.state)


def explains_end(transaction: Transaction, before: common_pb2.Appointment, since: datetime) -> bool:
    """Whether commands of ours account for a row that is gone: many HIS delete a hold that is booked or given back, and
    some delete what is cancelled."""
    ours = _ours(transaction, before.order_no, since)
    return any(order.explains(ours, before.state, end) for end in order.ends(before.state))


def _ours(transaction: Transaction, order_no: str, since: datetime) -> set[order.OrderCommand]:
    ours: set[order.OrderCommand] = set()
    for row in transaction.commands.of_order(order_no):
        effect = COMMANDS[row.operation].order_command if row.operation in COMMANDS else None
        may_be_done = row.state.is_open or row.state is CommandState.DONE
        end = row.finished_time or row.sent_time
        if effect is not None and may_be_done and not row.replay_of and end >= since - _ECHO_OVERLAP:
            ours.update((effect, *_registered_at_once(row, effect)))
    return ours
