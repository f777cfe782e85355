"""Rows of sagas: what each step writes, with the sealed record and the refund, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from google.protobuf.message import Message
from his160.site.v1.insurance_gateway_pb2 import SettlementRecord
from his160.v1 import event_pb2

from sync import money_effects, numbers, outbox, settlement_record
from sync.clock import Clock
from sync.commands import COMMANDS
from sync.ledger import Ledger
from sync.money_book import SettlementRow, SettlementState
from sync.redaction import without_personal
from sync.saga import Step
from sync.saga_context import Books, Context, SagaRules
from sync.store import CommandRow, CommandState, Store, StoreError, Transaction


@dataclass(frozen=True, slots=True)
class Begun:
    """A step that is on disk in state SENT, and the message that may now leave."""

    row: CommandRow
    message: Message
    settlement: SettlementRow | None


class SagaLedger:
    """The ledger as sagas use it. Methods raise StoreError; then nothing was kept."""

    def __init__(self, store: Store, ledger: Ledger, clock: Clock, rules: SagaRules) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._rules = rules

    async def open(self, parent: CommandRow, request: Any) -> tuple[dict[str, CommandRow], Books]:
        """The steps of the command's present attempt by name, and the books of its order."""

        def unit(transaction: Transaction) -> tuple[dict[str, CommandRow], Books]:
            rows = {
                row.step: row
                for row in transaction.commands.steps_of(parent.request_id)
                if row.request_id == numbers.step_id(parent.request_id, parent.attempt, row.step)
            }
            return rows, _books(transaction, parent, request)

        return await self._store.read(unit)

    async def begin(self, step: Step, context: Context) -> Begun:
        """Puts the step on disk as SENT, with its number and what of it must be kept; then it may leave."""
        opening = _opening(context)
        now = self._clock()

        def unit(transaction: Transaction) -> Begun:
            _require_same(transaction, context.rows.get(step.name))
            kept = context.sent(step.name)
            number = getattr(kept, "msgid", "") if kept is not None else ""
            command = COMMANDS[step.operation]
            if step.is_numbered and (not number or command.is_repeatable):
                # What can be asked for keeps its number on every attempt. What is simply repeated gets a new one each
                # time: a platform may refuse one that it has seen, and would then never say that it is done.
                number = numbers.next_msgid(
                    transaction, self._rules.institution, now, self._rules.zone, self._rules.sequences
                )
            row = self._row(step, context)
            message: Any = step.build(replace(context, number=number))
            message.request_id = row.request_id
            row = replace(
                row,
                essence_hash=command.essence_hash(message),
                payload_hash=command.payload_hash(message),
                natural_key=command.natural(message),
                request=without_personal(message).SerializeToString(deterministic=True),
            )
            transaction.commands.put(row)
            changed = settlement_record.when_sent(context.books.settlement, message, opening, now)
            if changed is not None and transaction.settlements.get(changed.key) != changed:
                transaction.settlements.put(changed)
            return Begun(row, message, changed)

        return await self._store.write(unit)

    async def record(
        self, row: CommandRow, following: CommandRow, response: Message | None, settlement: SettlementRow | None
    ) -> SettlementRow | None:
        """Writes what became of a step, with the sealed record and the refund that its answer makes. The record now."""
        now = self._clock()
        changed = money_effects.settlement_after(settlement, following, response, now)
        await self._ledger.advance(
            row, following, lambda work: money_effects.keep(work, row, response, settlement, changed, now)
        )
        return changed

    async def refuse(self, step: Step, context: Context, reason: int, detail: str, *, final: bool) -> CommandRow:
        """Writes a step that is not sent at all: refused, or not now."""
        row = self._row(step, context)
        make = self._ledger.rejected if final else self._ledger.retryable
        return await self._ledger.advance(context.rows.get(step.name, row), make(row, reason, detail))

    async def end(
        self,
        parent: CommandRow,
        following: CommandRow,
        *,
        undone: Sequence[CommandRow],
        event: event_pb2.Event | None,
        settlement: SettlementRow | None,
    ) -> CommandRow:
        """Writes the end of a saga: its row, the steps that are undone without ever being answered, the event, and
        what a look has told of the insured visit.
        """
        now = self._clock()

        def also(transaction: Transaction) -> None:
            if settlement is not None and transaction.settlements.get(settlement.key) not in (None, settlement):
                transaction.settlements.put(settlement)
            for row in undone:
                transaction.commands.put(self._ledger.retryable(row, row.reason, "undone by the steps back"))
            if event is not None:
                outbox.append(transaction, event, now)

        return await self._ledger.advance(parent, following, also)

    async def hold(self, parent: CommandRow, detail: str, *, has_caller: bool) -> CommandRow:
        """Writes that the saga waits. A caller who has just been there may come back: his patience begins anew."""
        held = self._ledger.probed(parent, detail)
        if has_caller:
            held = replace(held, finished_time=self._clock())
        return await self._ledger.advance(parent, held)

    def adopted(self, context: Context, record: SettlementRecord) -> SettlementRow:
        """A row for a settlement that the HIS has and the agent did not make; on disk with the first step."""
        return settlement_record.adopted(record, _opening(context), self._clock())

    async def number(self) -> str:
        """A msgid for a read."""
        rules, now = self._rules, self._clock()
        return await self._store.write(
            lambda work: numbers.next_msgid(work, rules.institution, now, rules.zone, rules.sequences)
        )

    async def stale_quotes(self, keep: timedelta, limit: int) -> Sequence[SettlementRow]:
        """Quoted visits that nobody has settled in time, and on whose orders nothing is under way."""
        before = self._clock() - keep

        def unit(transaction: Transaction) -> Sequence[SettlementRow]:
            found = transaction.settlements.listed(SettlementState.QUOTED, before, limit)
            return [row for row in found if not transaction.commands.open_of(row.order_key, "")]

        return await self._store.read(unit)

    def _row(self, step: Step, context: Context) -> CommandRow:
        """The row of a step that is sent now: a new one, or the next attempt of the one there is."""
        parent, now = context.parent, self._clock()
        known = context.rows.get(step.name)
        if known is not None:
            return replace(
                known,
                state=CommandState.SENT,
                sent_time=now,
                attempt=known.attempt + 1,
                reason=0,
                detail="",
                finished_time=None,
                mapping_revision=self._ledger.revision(),
            )
        return CommandRow(
            request_id=numbers.step_id(parent.request_id, parent.attempt, step.name),
            operation=step.operation,
            payload_hash=b"",
            essence_hash=b"",
            order_key=parent.order_key,
            natural_key="",
            state=CommandState.SENT,
            received_time=now,
            sent_time=now,
            mapping_revision=self._ledger.revision(),
            parent=parent.request_id,
            step=step.name,
        )


def _require_same(transaction: Transaction, known: CommandRow | None) -> None:
    """A step may leave only as it was looked at: a person may have decided about it meanwhile. Raises StoreError."""
    current = None if known is None else transaction.commands.get(known.request_id)
    if known is not None and current is not None and (current.state, current.attempt) != (known.state, known.attempt):
        raise StoreError("somebody has decided about the step meanwhile")


def _opening(context: Context) -> settlement_record.Opening:
    parent = context.parent
    return settlement_record.Opening(parent.order_key, parent.request_id, batch_of(context))


def batch_of(context: Context) -> str:
    """收费批次号 of the visit that this attempt would open."""
    parent = context.parent
    return numbers.batch_no(parent.order_key, parent.request_id, parent.attempt)


def _books(transaction: Transaction, parent: CommandRow, request: Any) -> Books:
    settlements = transaction.settlements.of_order(parent.order_key)
    settlement = settlements[0] if settlements else None
    trades = {getattr(request, "out_trade_no", ""), settlement.out_trade_no if settlement is not None else ""}
    return Books(
        history=tuple(transaction.commands.of_order(parent.order_key)),
        settlement=settlement,
        refunds=tuple(row for trade in sorted(trades) for row in transaction.refunds.of_trade(trade)),
    )
