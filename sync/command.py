"""Running commands against the HIS: each takes effect at most once, and what is not known is never called a failure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, Final

from google.protobuf.message import Message
from his160.v1 import insurance_pb2, patient_pb2, payment_pb2, reason_pb2

from his_db.errors import DeadlinePassed, HisError, HisRefused, HisUnavailable, OutcomeUnknown, Overloaded
from sync import foresight, identity_document, numbers
from sync.audit import Audit
from sync.clock import Clock
from sync.command_entry import Command
from sync.commands import COMMANDS
from sync.his import HisPort
from sync.his_locked import LockedHis
from sync.key_lock import KeyLocks, KeysHeld, Locks
from sync.ledger import Answered, Ledger, Send
from sync.money_book import TradeRow
from sync.orphans import OrphanLocks
from sync.probing import Prober, Settle
from sync.refunds import RefundFollower
from sync.registry import load_sagas
from sync.saga import Saga
from sync.saga_context import SagaRules
from sync.saga_refund import told
from sync.saga_run import Outcome, SagaRunner, write_key
from sync.store import CommandRow, CommandState, Store, StoreError
from sync.trades import TradeFollower
from sync.verdict import Finding

_LOG = logging.getLogger("his160.sync.command")
_RETRY: Final = timedelta(seconds=2)
_SWEPT_AT_ONCE: Final = 8  # orders that a sweep goes on with at a time
CONFIRM: Final = "PaymentService.ConfirmPayment"
QUOTE: Final = "InsuranceService.QuoteInsurance"
_CHINA: Final = timezone(timedelta(hours=8))  # no summer time since 1991


@dataclass(slots=True)
class _Running:
    """A command under way. ``waiters``: callers that still want its answer."""

    payload_hash: bytes
    order_key: str
    task: asyncio.Task[Message]
    waiters: int = 0


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep over open commands did."""

    looked_at: int
    resolved: int


class CommandExecutor:
    """Executes the write operations of the contract. For one event loop; one instance for a store.

    ``settle``: see ``Prober``. ``places``: most commands at once; ``order_places``: of one order, so that an order that
    is stuck keeps no other from its place. ``revision``: the mapping revision now. ``zone``: where "today" is, for
    dates of birth. ``rules``: of the site's sagas. ``appended``: called when an event was put into the outbox.
    ``locks``: of the store, when other agents work on it too.
    """

    def __init__(
        self,
        his: HisPort,
        store: Store,
        *,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
        revision: Callable[[], str] = lambda: "",
        settle: timedelta | Settle = timedelta(seconds=15),
        places: int = 512,
        order_places: int = 16,
        zone: tzinfo | None = None,
        audit: Audit | None = None,
        rules: SagaRules | None = None,
        appended: Callable[[], None] = lambda: None,
        locks: Locks | None = None,
    ) -> None:
        locks = locks or KeyLocks()
        if locks.is_shared:
            his = LockedHis(his, locks)
        self._his = his
        self._clock = clock
        self._monotonic = monotonic
        self._ledger = Ledger(store, clock, revision=revision, audit=audit)
        self._prober = Prober(his, self._ledger, clock, settle=settle, monotonic=monotonic)
        self._sagas = SagaRunner(
            his,
            store,
            self._ledger,
            self._prober,
            clock,
            sagas=load_sagas(),
            rules=rules or SagaRules(),
            monotonic=monotonic,
            appended=appended,
        )
        self._refunds = RefundFollower(his, store, clock)
        self._rules = rules or SagaRules()
        self._trades = TradeFollower(his, store, clock, self._rules, self._give_back)
        self._places = places
        self._order_places = order_places
        self._zone = zone or _CHINA
        self._locks: Locks = locks
        self._running: dict[str, _Running] = {}
        # Answers of the HIS that the store could not take yet: kept here until it can.
        self._unrecorded: dict[str, tuple[CommandRow, CommandRow]] = {}
        if locks.is_shared:
            self._locks = OrphanLocks(locks, store, self._ledger, self._unrecorded.__contains__)

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    async def execute(self, operation: str, request: Message, *, deadline: float | None = None) -> Message:
        """The HIS's answer to the command, from the HIS or, for a repetition, from the ledger.

        ``deadline``: reading of the monotonic clock; one that has passed keeps a command from beginning, never from
        ending.
        Cancelling the caller lets a command that was sent go on; its answer is kept for the repetition.

        Raises KeyError for an operation that is no command; HisRefused (also INVALID_REQUEST, REQUEST_ID_REUSED,
        ORDER_BUSY); OutcomeUnknown: repeat the same request, it probes; DeadlinePassed, Overloaded and the other
        HisErrors: nothing happened; StoreError: nothing was sent.
        """
        command = COMMANDS[operation]
        if command.is_internal:
            raise KeyError(operation)
        request_id = str(getattr(request, "request_id", ""))
        if not request_id:
            raise HisRefused(reason_pb2.REASON_INVALID_REQUEST, "request_id is empty")
        payload_hash = command.payload_hash(request)
        running = self._running.get(request_id)
        if running is None:
            running = self._start(command, self._prepared(request), request_id, payload_hash, deadline)
        elif running.payload_hash != payload_hash:
            raise HisRefused(reason_pb2.REASON_REQUEST_ID_REUSED, "the request_id is under way with another request")
        running.waiters += 1
        try:
            shared = await asyncio.shield(running.task)
        finally:
            running.waiters -= 1
        own = command.response_class()
        own.CopyFrom(shared)
        return own

    async def recover(self) -> Sweep:
        """At start-up, before the first ``execute``: commands that a crash cut off become UNKNOWN and are probed."""
        if self._running:
            raise RuntimeError("recover() must come before the first command")
        if not self._locks.is_shared:  # else they may be another agent's; the sweep finds out by their locks
            interrupted = await self._ledger.interrupt()
            if interrupted:
                _LOG.warning("commands were cut off by the last stop", extra={"commands": interrupted})
        return await self.sweep()

    async def sweep(self, limit: int = 100) -> Sweep:
        """Goes on with open commands that nobody runs, several orders at a time; undoes quotes that nobody settled;
        asks for refunds on their way, and for trades whose time is over. Raises StoreError.
        """
        await self._flush()
        places = asyncio.Semaphore(_SWEPT_AT_ONCE)

        async def one(row: CommandRow) -> bool | None:
            async with places:
                return await self._go_on(row)

        rows = [row for row in await self._ledger.open(limit) if row.request_id not in self._running]
        found = await asyncio.gather(*(one(row) for row in rows))
        await self._undo_quotes(limit)
        await self._refunds.follow()
        await self._trades.follow()
        return Sweep(sum(resolved is not None for resolved in found), sum(resolved is True for resolved in found))

    async def wake(self, number: str) -> int:
        """Goes on now with open commands that a number of the payment house or of 医保 belongs to, and asks for a
        refund of that number; how many commands came to an end.

        What the number is called with is no evidence: all is asked for, as in a sweep. Raises HisError and StoreError.
        """
        await self._refunds.ask_now(number)
        rows = [row for row in await self._ledger.open_of_number(number) if row.request_id not in self._running]
        return sum([await self._go_on(row) is True for row in rows])

    async def _go_on(self, row: CommandRow) -> bool | None:
        """Whether an open command has come to its end; None when another has seen to it, or does."""
        try:
            async with self._locks.hold(_keys(row.order_key, row.natural_key), patience=timedelta(0)):
                current = await self._ledger.get(row.request_id)
                if current is None or not current.state.is_open or row.request_id in self._running:
                    return None
                return not (await self._resolved(current, None)).row.state.is_open
        except KeysHeld:
            return None

    async def _resolved(self, row: CommandRow, request: Message | None) -> Outcome:
        """The command as it is after looking, or after going on with it. ``request``: its own, when it is repeated."""
        saga = self._sagas.named(row)
        if saga is not None:
            return await self._sagas.drive(saga, row, request)
        return Outcome(await self._prober.resolve(row, repeat=request is not None))

    async def _undo_quotes(self, limit: int) -> None:
        """Visits at 医保 that were opened for a quote, and that nobody has settled in time."""
        for quote in await self._sagas.books.stale_quotes(self._rules.quote_keep, limit):
            request = insurance_pb2.QuoteInsuranceRequest(
                request_id=numbers.undoing_id(quote.key), order_no=quote.order_key
            )
            with contextlib.suppress(KeysHeld):  # an agent works on the order: the next sweep looks again
                await self._drive_own(self._sagas.undoing_quote, COMMANDS[QUOTE], request)

    async def _give_back(self, trade: TradeRow) -> CommandRow | None:
        """What was paid and never confirmed; None while another works on its order."""
        request = payment_pb2.ConfirmPaymentRequest(
            request_id=numbers.returning_id(trade.out_trade_no),
            order_no=trade.order_key,
            out_trade_no=trade.out_trade_no,
            amount_fen=trade.amount_fen,
        )
        try:
            return await self._drive_own(self._sagas.returning_payment, COMMANDS[CONFIRM], request)
        except KeysHeld:
            return None

    async def _drive_own(self, saga: Saga, command: Command, request: Any) -> CommandRow | None:
        """A command of the agent's own, which nobody has sent; None while something stands in its way.

        Raises KeysHeld and StoreError.
        """
        keys = _keys(command.order_key(request), command.natural(request))
        async with self._locks.hold(keys, patience=timedelta(0)):
            payload = command.payload_hash(request)
            admission = await self._ledger.admit(command, request, request.request_id, payload, saga=saga.name)
            if isinstance(admission, Send):
                return (await self._sagas.drive(saga, admission.row, None)).row
            return admission.row if isinstance(admission, Answered) else None

    async def drain(self, limit: timedelta) -> int:
        """Waits for commands under way, at most this long; how many are still not done. Nothing is cancelled."""
        tasks = [running.task for running in self._running.values()]
        if not tasks:
            return 0
        _, waiting = await asyncio.wait(tasks, timeout=limit.total_seconds())
        return len(waiting)

    def _prepared(self, request: Message) -> Message:
        if isinstance(request, patient_pb2.EnsurePatientRequest):
            return identity_document.completed(request, today=self._today().date())
        copy = type(request)()
        copy.CopyFrom(request)  # the caller may go on and change its own
        return copy

    def _today(self) -> datetime:
        return self._clock().astimezone(self._zone)

    def _start(
        self, command: Command, request: Message, request_id: str, payload_hash: bytes, deadline: float | None
    ) -> _Running:
        if len(self._running) >= self._places:
            raise Overloaded("too many commands are under way", retry_after=_RETRY)
        order_key = command.order_key(request)
        if order_key and self._of_order(order_key) >= self._order_places:
            detail = "too many commands of the order wait"
            raise HisRefused(reason_pb2.REASON_ORDER_BUSY, detail, retry_after=_RETRY)
        work = self._run_alone(command, request, request_id, payload_hash, deadline)
        running = _Running(payload_hash, order_key, asyncio.create_task(work, name=f"command {command.operation}"))
        self._running[request_id] = running

        def ended(task: asyncio.Task[Message]) -> None:
            del self._running[request_id]
            if not task.cancelled():
                task.exception()  # marks it as seen: all callers may have gone

        running.task.add_done_callback(ended)
        return running

    def _of_order(self, order_key: str) -> int:
        return sum(running.order_key == order_key for running in self._running.values())

    async def _run_alone(
        self, command: Command, request: Message, request_id: str, payload_hash: bytes, deadline: float | None
    ) -> Message:
        """Raises OutcomeUnknown or HisRefused ORDER_BUSY while another agent runs this command, or one of the order."""
        try:
            return await self._run(command, request, request_id, payload_hash, deadline)
        except KeysHeld as error:
            known = await self._ledger.get(request_id)
            if known is not None and known.payload_hash == payload_hash:
                if known.state.is_open:
                    raise OutcomeUnknown("another agent runs the command", retry_after=_RETRY) from error
                return _answer(command, known)
            detail = "another agent runs a command of the order"
            raise HisRefused(reason_pb2.REASON_ORDER_BUSY, detail, retry_after=_RETRY) from error

    async def _run(
        self, command: Command, request: Message, request_id: str, payload_hash: bytes, deadline: float | None
    ) -> Message:
        async with self._locks.hold(_keys(command.order_key(request), command.natural(request))):
            kept = self._unrecorded.get(request_id)
            if kept is not None and kept[1].payload_hash == payload_hash:
                return _answer(command, kept[1])
            await self._flush()
            saga = self._sagas.chosen(command.operation)
            for last in (False, True):
                self._check_wanted(request_id, deadline)
                admission = await self._ledger.admit(
                    command, request, request_id, payload_hash, saga="" if saga is None else saga.name
                )
                if isinstance(admission, Send) and saga is not None:
                    outcome = await self._sagas.drive(saga, admission.row, request, deadline=deadline)
                    return _told(command, outcome)
                if isinstance(admission, Send):
                    answer = await self._known(command, request, admission)
                    return answer or await self._send(command, request, admission.row, deadline)
                if isinstance(admission, Answered):
                    return _answer(command, admission.row)
                await self._clear(admission.rows, request_id, request, last=last)
            raise AssertionError("unreachable: the last round either answers or raises")

    def _check_wanted(self, request_id: str, deadline: float | None) -> None:
        """Raises DeadlinePassed when nobody waits any more: nothing has been sent, so nothing need be."""
        if deadline is not None and self._monotonic() >= deadline:
            raise DeadlinePassed("the deadline passed before the command was sent")
        running = self._running.get(request_id)
        if running is not None and not running.waiters:
            raise DeadlinePassed("the caller gave up before the command was sent")

    async def _clear(self, rows: Sequence[CommandRow], request_id: str, request: Message, *, last: bool) -> None:
        """Resolves what stands in the way.

        Raises OutcomeUnknown (this very request is open) or HisRefused ORDER_BUSY (another one is).
        """
        for row in rows:
            own = row.request_id == request_id
            outcome = Outcome(row)
            if not last:
                outcome = await self._resolved(row, request if own else None)
            if outcome.row.state.is_open:
                wait = max(_RETRY, self._prober.unsettled(outcome.row))
                if own:
                    raise _unknown("it is not known yet whether the HIS did it", wait, outcome)
                detail = "another command of the order is unresolved"
                raise HisRefused(reason_pb2.REASON_ORDER_BUSY, detail, retry_after=wait)

    async def _known(self, command: Command, request: Message, admission: Send) -> Message | None:
        """An answer without a write: the HIS has it already, or its state of the order forbids it. None: send it.

        Raises HisRefused, recorded. A HIS that cannot be asked is sent the command: it has the last word.
        """
        row = admission.row
        if foresight.objection(command, admission.known) is None and not command.looks_first:
            return None
        try:
            verdict = await self._prober.foreseen(command, request)
        except HisError:
            return None
        if verdict.finding is Finding.DONE and verdict.response is not None:
            await self._record(row, self._ledger.done(row, verdict.response))
            return verdict.response
        if verdict.finding is Finding.REFUSED:
            await self._record(row, self._ledger.rejected(row, verdict.reason, verdict.detail))
            raise HisRefused(verdict.reason, verdict.detail)
        return None

    async def _send(self, command: Command, request: Message, row: CommandRow, deadline: float | None) -> Message:
        """Writes, and records what came of it. From here on the command goes to its end, whoever waits."""
        try:
            response = await self._his.write(
                command.operation, request, key=write_key(row.request_id), deadline=deadline
            )
        except HisError as error:
            following = self._ledger.after_error(row, error)
            await self._record(row, following)
            if following.state is CommandState.UNKNOWN and not isinstance(error, OutcomeUnknown):
                raise OutcomeUnknown(error.detail, retry_after=error.retry_after or _RETRY) from error
            raise
        except Exception as error:  # BLE001 - raised on: after SENT a defect below means the outcome is not known
            _LOG.exception("write failed unexpectedly", extra={"operation": row.operation})
            await self._record(row, self._ledger.unknown(row, f"unexpected {type(error).__name__}"))
            raise OutcomeUnknown("the write ended in an unexpected way", retry_after=_RETRY) from error
        await self._record(row, self._ledger.done(row, response))
        return response

    async def _record(self, row: CommandRow, following: CommandRow) -> None:
        """Makes the outcome durable. A store that fails now must not turn what happened into an error."""
        _LOG.info(
            "command",
            extra={
                "operation": row.operation,
                "request_id": row.request_id,
                "state": following.state.value,
                "reason": following.reason,
                "attempt": row.attempt,
            },
        )
        try:
            await self._ledger.advance(row, following)
        except StoreError as error:
            _LOG.error("an outcome waits for the store", extra={"request_id": row.request_id, "detail": str(error)})
            self._unrecorded[row.request_id] = (row, following)

    async def _flush(self) -> None:
        """Records what the store could not take before. Raises StoreError while it still cannot."""
        for request_id, (row, following) in list(self._unrecorded.items()):
            await self._ledger.advance(row, following)
            self._unrecorded.pop(request_id, None)


def _keys(order_key: str, natural_key: str) -> list[str]:
    return [f"order:{order_key}", natural_key] if order_key else [natural_key]


def _answer(command: Command, row: CommandRow) -> Message:
    """The answer that the ledger holds. Raises HisRefused for a refusal, and for what is open or may be repeated."""
    return _told(command, Outcome(row, metadata=_kept_refund(row)))


def _told(command: Command, outcome: Outcome) -> Message:
    """What the caller of a command is told: its answer, or the error for how it stands."""
    row = outcome.row
    if row.state is CommandState.DONE:
        return outcome.response or command.response_class.FromString(row.result)
    error = outcome.error
    if row.state is CommandState.REJECTED:
        # Anew each time: the error of a shared read may be on its way to others, who must not be told of this refund.
        text = error.text if isinstance(error, HisRefused) and error.reason == row.reason else ""
        refused = HisRefused(reason_pb2.Reason.ValueType(row.reason), row.detail, text=text)
        refused.metadata = dict(outcome.metadata or {})
        raise refused
    if row.state is CommandState.RETRYABLE:
        raise error or HisUnavailable(row.detail, retry_after=_RETRY)
    raise _unknown(row.detail or "it is not known yet whether the HIS did it", _RETRY, outcome)


def _unknown(detail: str, wait: timedelta, outcome: Outcome) -> OutcomeUnknown:
    unknown = OutcomeUnknown(detail, retry_after=wait)
    unknown.metadata = dict(outcome.metadata or {})
    return unknown


def _kept_refund(row: CommandRow) -> Mapping[str, str]:
    """The refund that a refused command has begun."""
    if row.state is not CommandState.REJECTED or not row.result:
        return {}
    return told(payment_pb2.Refund.FromString(row.result))
