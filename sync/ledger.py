"""The command ledger: what was asked, what was sent, what became of it. The rules, over the store's rows.

A row is made in state SENT by the same commit that admits the command, so that nothing reaches the HIS that the ledger
does not know. (A state before it would cost a second fsync and decide nothing.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from google.protobuf.message import Message
from his160.v1 import common_pb2, reason_pb2

from his_db.errors import HisRefused
from sync import order
from sync.clock import Clock
from sync.commands import COMMANDS, Command
from sync.redaction import without_personal
from sync.store import CommandRow, CommandState, Store, Transaction

# A command sent shortly before the row was last looked at may still be what the next look shows.
_ECHO_OVERLAP = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Send:
    """Go: the row is on disk in state SENT."""

    row: CommandRow


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

    def __init__(self, store: Store, clock: Clock, *, revision: Callable[[], str] = lambda: "") -> None:
        self._store = store
        self._clock = clock
        self._revision = revision

    async def admit(self, command: Command, request: Message, request_id: str, payload_hash: bytes) -> Admission:
        """Decides about a request and, for ``Send``, makes its row; all in one commit.

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
            mapping_revision=self._revision(),
        )
        return await self._store.write(lambda transaction: _admit(transaction, command, fresh))

    async def get(self, request_id: str) -> CommandRow | None:
        return await self._store.read(lambda transaction: transaction.commands.get(request_id))

    async def open(self, limit: int) -> Sequence[CommandRow]:
        """Rows whose outcome is not known (or under way), those probed least first."""
        return await self._store.read(lambda transaction: transaction.commands.open(limit))

    async def listed(self, state: CommandState, limit: int = 200) -> Sequence[CommandRow]:
        """Rows of a state, oldest first: the evidence for a person."""
        return await self._store.read(lambda transaction: transaction.commands.listed(state, limit))

    async def counts(self) -> Mapping[CommandState, int]:
        return await self._store.read(lambda transaction: transaction.commands.counts())

    async def advance(self, row: CommandRow, following: CommandRow) -> CommandRow:
        """Puts ``following`` in the place of ``row`` if that is still what the ledger holds; what it holds then."""

        def unit(transaction: Transaction) -> CommandRow:
            current = transaction.commands.get(row.request_id)
            if current is not None and (current.state, current.attempt) != (row.state, row.attempt):
                return current
            transaction.commands.put(following)
            return following

        return await self._store.write(unit)

    async def interrupt(self) -> int:
        """At start-up: what was SENT when the process ended is UNKNOWN. The number of such rows."""
        now = self._clock()
        detail = "the agent stopped before the answer came"
        return await self._store.write(lambda transaction: transaction.commands.interrupt_sent(now, detail))

    async def prune(self, keep: timedelta) -> int:
        """Deletes answered commands that ended longer ago than ``keep``. A later repetition of them runs anew."""
        before = self._clock() - keep
        return await self._store.write(lambda transaction: transaction.commands.prune(before))

    def done(self, row: CommandRow, response: Message) -> CommandRow:
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

    def probed(self, row: CommandRow, detail: str) -> CommandRow:
        """Still not known after one more probe."""
        since = row.finished_time or self._clock()
        state = CommandState.UNKNOWN
        return replace(row, state=state, probes=row.probes + 1, detail=detail, finished_time=since)

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
    return Send(fresh)


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


def explains(
    transaction: Transaction, before: common_pb2.Appointment | None, after: common_pb2.Appointment, since: datetime
) -> bool:
    """Whether commands of ours alone account for a change of an order that was last seen changed at ``since``.

    Counts commands that were done or may have been (SENT, DONE, UNKNOWN) and were not sent long before ``since``.
    """
    ours: set[order.OrderCommand] = set()
    for row in transaction.commands.of_order(after.order_no):
        effect = COMMANDS[row.operation].order_command if row.operation in COMMANDS else None
        may_be_done = row.state.is_open or row.state is CommandState.DONE
        end = row.finished_time or row.sent_time
        if effect is not None and may_be_done and not row.replay_of and end >= since - _ECHO_OVERLAP:
            ours.add(effect)
    return order.explains(ours, order.NONE if before is None else before.state, after.state)
