"""Running commands against the HIS: each takes effect at most once, and what is not known is never called a failure."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Final

from google.protobuf.message import Message
from his160.v1 import patient_pb2, reason_pb2

from his_db.errors import DeadlinePassed, HisError, HisRefused, HisUnavailable, OutcomeUnknown, Overloaded
from sync import identity_document
from sync.clock import Clock
from sync.commands import COMMANDS, Command
from sync.his import HisPort
from sync.key_lock import KeyLocks
from sync.ledger import Answered, Ledger, Send
from sync.probing import Prober
from sync.store import CommandRow, CommandState, Store, StoreError

_LOG = logging.getLogger("his160.sync.command")
_RETRY: Final = timedelta(seconds=2)
_CHINA: Final = timezone(timedelta(hours=8))  # no summer time since 1991

# A refusal for one of these reasons says "not now": the same request may run again.
_TRANSIENT: Final = frozenset(
    {
        reason_pb2.REASON_HIS_UNAVAILABLE,
        reason_pb2.REASON_HIS_BUSY,
        reason_pb2.REASON_OVERLOADED,
        reason_pb2.REASON_SWITCHED_OFF,
        reason_pb2.REASON_DEADLINE_EXCEEDED,
        reason_pb2.REASON_OPERATION_NOT_MAPPED,
        reason_pb2.REASON_MAPPING_MISMATCH,
    }
)


@dataclass(slots=True)
class _Running:
    """A command under way. ``waiters``: callers that still want its answer."""

    payload_hash: bytes
    task: asyncio.Task[Message]
    waiters: int = 0


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep over open commands did."""

    looked_at: int
    resolved: int


class CommandExecutor:
    """Executes the write operations of the contract. For one event loop; one instance for a store.

    ``settle``: see ``Prober``. ``places``: most commands at once. ``revision``: the mapping revision now.
    ``zone``: where "today" is, for dates of birth.
    """

    def __init__(
        self,
        his: HisPort,
        store: Store,
        *,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
        revision: Callable[[], str] = lambda: "",
        settle: timedelta = timedelta(seconds=15),
        places: int = 512,
        zone: tzinfo | None = None,
    ) -> None:
        self._his = his
        self._clock = clock
        self._monotonic = monotonic
        self._ledger = Ledger(store, clock, revision=revision)
        self._prober = Prober(his, self._ledger, clock, settle=settle, monotonic=monotonic)
        self._places = places
        self._zone = zone or _CHINA
        self._locks = KeyLocks()
        self._running: dict[str, _Running] = {}
        # Answers of the HIS that the store could not take yet: kept here until it can.
        self._unrecorded: dict[str, tuple[CommandRow, CommandRow]] = {}

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
        interrupted = await self._ledger.interrupt()
        if interrupted:
            _LOG.warning("commands were cut off by the last stop", extra={"commands": interrupted})
        return await self.sweep()

    async def sweep(self, limit: int = 100) -> Sweep:
        """Probes open commands that nobody runs. Stops early when the HIS cannot be reached. Raises StoreError."""
        await self._flush()
        looked_at = resolved = 0
        for row in await self._ledger.open(limit):
            if row.request_id in self._running:
                continue
            async with self._locks.hold(_keys(row.order_key, row.natural_key)):
                current = await self._ledger.get(row.request_id)
                if current is None or not current.state.is_open:
                    continue
                looked_at += 1
                resolved += not (await self._prober.resolve(current)).state.is_open
        return Sweep(looked_at, resolved)

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
        work = self._run(command, request, request_id, payload_hash, deadline)
        running = _Running(payload_hash, asyncio.create_task(work, name=f"command {command.operation}"))
        self._running[request_id] = running

        def ended(task: asyncio.Task[Message]) -> None:
            del self._running[request_id]
            if not task.cancelled():
                task.exception()  # marks it as seen: all callers may have gone

        running.task.add_done_callback(ended)
        return running

    async def _run(
        self, command: Command, request: Message, request_id: str, payload_hash: bytes, deadline: float | None
    ) -> Message:
        async with self._locks.hold(_keys(command.order_key(request), command.natural(request))):
            kept = self._unrecorded.get(request_id)
            if kept is not None and kept[1].payload_hash == payload_hash:
                return _answer(command, kept[1])
            await self._flush()
            for last in (False, True):
                self._check_wanted(request_id, deadline)
                admission = await self._ledger.admit(command, request, request_id, payload_hash)
                if isinstance(admission, Send):
                    return await self._send(command, request, admission.row, deadline)
                if isinstance(admission, Answered):
                    return _answer(command, admission.row)
                await self._clear(admission.rows, request_id, last=last)
            raise AssertionError("unreachable: the last round either answers or raises")

    def _check_wanted(self, request_id: str, deadline: float | None) -> None:
        """Raises DeadlinePassed when nobody waits any more: nothing has been sent, so nothing need be."""
        if deadline is not None and self._monotonic() >= deadline:
            raise DeadlinePassed("the deadline passed before the command was sent")
        running = self._running.get(request_id)
        if running is not None and not running.waiters:
            raise DeadlinePassed("the caller gave up before the command was sent")

    async def _clear(self, rows: Sequence[CommandRow], request_id: str, *, last: bool) -> None:
        """Resolves what stands in the way.

        Raises OutcomeUnknown (this very request is open) or HisRefused ORDER_BUSY (another one is).
        """
        for row in rows:
            own = row.request_id == request_id
            if not last:
                row = await self._prober.resolve(row, repeat=own)
            if row.state.is_open:
                wait = max(_RETRY, self._prober.unsettled(row))
                if own:
                    raise OutcomeUnknown("it is not known yet whether the HIS did it", retry_after=wait)
                detail = "another command of the order is unresolved"
                raise HisRefused(reason_pb2.REASON_ORDER_BUSY, detail, retry_after=wait)

    async def _send(self, command: Command, request: Message, row: CommandRow, deadline: float | None) -> Message:
        """Writes, and records what came of it. From here on the command goes to its end, whoever waits."""
        try:
            response = await self._his.write(command.operation, request, key=_key(row.request_id), deadline=deadline)
        except HisError as error:
            following = self._after_error(row, error)
            await self._record(row, following)
            if following.state is CommandState.UNKNOWN and not isinstance(error, OutcomeUnknown):
                raise OutcomeUnknown(error.detail, retry_after=error.retry_after or _RETRY) from error
            raise
        except Exception as error:  # BLE001 - raised on: after SENT a defect below means the outcome is not known
            _LOG.error("write failed unexpectedly", extra={"operation": row.operation, "error": type(error).__name__})
            await self._record(row, self._ledger.unknown(row, f"unexpected {type(error).__name__}"))
            raise OutcomeUnknown("the write ended in an unexpected way", retry_after=_RETRY) from error
        await self._record(row, self._ledger.done(row, response))
        return response

    def _after_error(self, row: CommandRow, error: HisError) -> CommandRow:
        reason = error.reason
        if isinstance(error, OutcomeUnknown) or reason == reason_pb2.REASON_OUTCOME_UNKNOWN:
            return self._ledger.unknown(row, error.detail)
        if isinstance(error, HisRefused) and reason not in _TRANSIENT:
            return self._ledger.rejected(row, reason, error.detail)
        return self._ledger.retryable(row, reason, error.detail)

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


def _key(request_id: str) -> str:
    return hashlib.sha256(request_id.encode()).hexdigest()[:32]


def _answer(command: Command, row: CommandRow) -> Message:
    """The answer that the ledger holds. Raises HisRefused for a refusal, and for what is open or may be repeated."""
    if row.state is CommandState.DONE:
        return command.response_class.FromString(row.result)
    if row.state is CommandState.REJECTED:
        raise HisRefused(reason_pb2.Reason.ValueType(row.reason), row.detail)
    if row.state is CommandState.RETRYABLE:
        raise HisUnavailable(row.detail, retry_after=_RETRY)
    raise OutcomeUnknown("it is not known yet whether the HIS did it", retry_after=_RETRY)
