"""Finding out what became of a command whose outcome is not known."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from google.protobuf.message import Message
from his160.v1 import appointment_pb2, reason_pb2

from his_db.errors import HisError, HisRefused, OperationNotMapped
from sync import foresight
from sync.clock import Clock
from sync.command_entry import GET_APPOINTMENT, Command, Probe
from sync.commands import COMMANDS
from sync.his import HisPort
from sync.ledger import Ledger
from sync.store import CommandRow
from sync.verdict import NOT_DONE, Finding, Verdict, other, refused

_LOG = logging.getLogger("his160.sync.probing")
_MOST_AHEAD = 10_000
_LIMIT = timedelta(seconds=10)  # for one probe, whoever waits for it

Settle = Callable[[str], timedelta]
"""How long a write of the operation may still be at work after its connection broke."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a row: the row as it is to be written, and the answer that a probe has found."""

    row: CommandRow
    response: Message | None = None


class Prober:
    """Resolves open rows of the ledger by reading the HIS.

    ``settle``: a statement whose connection broke may still run in the database for a while; until this long after the
    break, that the HIS shows nothing does not mean that nothing happens. Longer than the operation's time-outs
    together; one duration for all, or by operation.
    """

    def __init__(
        self,
        his: HisPort,
        ledger: Ledger,
        clock: Clock,
        *,
        settle: timedelta | Settle,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._his = his
        self._ledger = ledger
        self._clock = clock
        self._settle: Settle = (lambda _: settle) if isinstance(settle, timedelta) else settle
        self._monotonic = monotonic
        self._ahead: dict[str, float] = {}  # rows of a time that is still to come, since when they were met

    def unsettled(self, row: CommandRow) -> timedelta:
        """How long yet until absence counts; zero or less: now."""
        settle = self._settle(row.operation)
        left = (row.finished_time or row.sent_time) + settle - self._clock()
        if left <= settle:
            self._ahead.pop(row.request_id, None)
            return left
        # The clock has been set back: the row would wait as long as that was. It settles from when it was met so.
        if len(self._ahead) >= _MOST_AHEAD:
            self._ahead.clear()
        met = self._ahead.setdefault(row.request_id, self._monotonic())
        return settle - timedelta(seconds=self._monotonic() - met)

    async def resolve(self, row: CommandRow, *, repeat: bool = False) -> CommandRow:
        """The row as it is after looking: still open when the HIS cannot say. Raises StoreError.

        ``repeat``: the same request waits to run again, so a repeatable command needs no settling. The caller holds the
        locks of the row's order and number.
        """
        command = COMMANDS[row.operation]
        if command.is_repeatable and not repeat and self.unsettled(row) > timedelta(0):
            return row
        found = await self.look(row, command.request_class.FromString(row.request), repeat=repeat)
        _note(found.row)
        return await self._ledger.advance(row, found.row)

    async def look(
        self,
        row: CommandRow,
        request: Message,
        *,
        repeat: bool = False,
        absent: reason_pb2.Reason.ValueType = reason_pb2.REASON_HIS_UNAVAILABLE,
    ) -> Found:
        """What the row is to become, not yet written. ``absent``: the reason of a row that was not done."""
        command = COMMANDS[row.operation]
        settled = self.unsettled(row) <= timedelta(0)
        if command.is_repeatable:
            if repeat or settled:
                return Found(self._ledger.retryable(row, row.reason, "a repetition is harmless"))
            return Found(row)
        try:
            verdict = await self.verdict(command, request)
        except HisError as error:
            return Found(self._ledger.probed(row, f"the probe failed: {error.detail}"))
        if verdict.finding is Finding.DONE and verdict.response is not None:
            return Found(self._ledger.done(row, verdict.response), verdict.response)
        if verdict.finding is Finding.OTHER:
            return Found(self._ledger.probed(row, verdict.detail))
        if not settled:  # NOT_DONE and REFUSED rest on absence
            return Found(self._ledger.probed(row, "not seen in the HIS yet"))
        if verdict.finding is Finding.REFUSED:
            return Found(self._ledger.rejected(row, verdict.reason, verdict.detail))
        return Found(self._ledger.retryable(row, absent, "the HIS did not do it"))

    async def foreseen(self, command: Command, request: Message) -> Verdict:
        """What the HIS says of a command that was not sent: done already, or forbidden by the state of its order.

        Raises HisError.
        """
        if command.looks_first:
            return await self.verdict(command, request)
        wanted = appointment_pb2.GetAppointmentRequest(order_no=command.order_key(request))
        found = await self._read(GET_APPOINTMENT, wanted)
        assert isinstance(found, appointment_pb2.GetAppointmentResponse)
        objection = foresight.objection(command, found.appointment.state)
        return NOT_DONE if objection is None else refused(objection.reason, str(objection))

    async def verdict(self, command: Command, request: Message) -> Verdict:
        """What the probes say, asked in turn: the first to find anything decides, absence counts when all agree.

        Raises HisError.
        """
        verdict = other("no read operation that could tell is mapped")
        for probe in command.probes:
            try:
                answer = await self._ask(probe, request)
            except OperationNotMapped:
                continue
            verdict = probe.judge(request, answer)
            if verdict.finding is Finding.DONE:
                return await self._completed(command, request, verdict)
            if verdict.finding is not Finding.NOT_DONE:
                return verdict
        return verdict

    async def _ask(self, probe: Probe, request: Message) -> Message | None:
        try:
            return await self._read(probe.operation, probe.request(request))
        except HisRefused as error:
            if reason_pb2.Reason.Name(error.reason).endswith("_NOT_FOUND"):
                return None
            raise

    async def _completed(self, command: Command, request: Message, verdict: Verdict) -> Verdict:
        """Puts the order into an answer that wants it. A site that cannot read orders answers without."""
        response = verdict.response
        if response is None or not command.completes or response.HasField("appointment"):
            return verdict
        wanted = appointment_pb2.GetAppointmentRequest(order_no=command.order_key(request))
        try:
            found = await self._read(GET_APPOINTMENT, wanted)
        except OperationNotMapped:
            return verdict
        assert isinstance(found, appointment_pb2.GetAppointmentResponse)
        response.MergeFrom(command.response_class(appointment=found.appointment))
        return verdict

    async def _read(self, operation: str, request: Message) -> Message:
        return await self._his.read(operation, request, deadline=self._monotonic() + _LIMIT.total_seconds())


def _note(row: CommandRow) -> None:
    _LOG.info(
        "probed",
        extra={
            "operation": row.operation,
            "request_id": row.request_id,
            "state": row.state.value,
            "probes": row.probes,
            "detail": row.detail,
        },
    )
