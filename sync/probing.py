"""Finding out what became of a command whose outcome is not known."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from google.protobuf.message import Message
from his160.v1 import appointment_pb2, reason_pb2

from his_db.errors import HisError, HisRefused, OperationNotMapped
from sync.clock import Clock
from sync.commands import COMMANDS, GET_APPOINTMENT, Command, Probe
from sync.his import HisPort
from sync.ledger import Ledger
from sync.store import CommandRow
from sync.verdict import Finding, Verdict, other

_LOG = logging.getLogger("his160.sync.probing")
_LIMIT = timedelta(seconds=10)  # for one probe, whoever waits for it


class Prober:
    """Resolves open rows of the ledger by reading the HIS.

    ``settle``: a statement whose connection broke may still run in the database for a while; until this long after the
    break, that the HIS shows nothing does not mean that nothing happens. Longer than statement and lock time-out
    together.
    """

    def __init__(
        self,
        his: HisPort,
        ledger: Ledger,
        clock: Clock,
        *,
        settle: timedelta,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._his = his
        self._ledger = ledger
        self._clock = clock
        self._settle = settle
        self._monotonic = monotonic

    def unsettled(self, row: CommandRow) -> timedelta:
        """How long yet until absence counts; zero or less: now."""
        return (row.finished_time or row.sent_time) + self._settle - self._clock()

    async def resolve(self, row: CommandRow, *, repeat: bool = False) -> CommandRow:
        """The row as it is after looking: still open when the HIS cannot say. Raises StoreError.

        ``repeat``: the same request waits to run again, so a repeatable command needs no settling. The caller holds the
        locks of the row's order and number.
        """
        command = COMMANDS[row.operation]
        settled = self.unsettled(row) <= timedelta(0)
        if command.is_repeatable:
            if repeat or settled:
                return await self._advance(row, self._ledger.retryable(row, row.reason, "a repetition is harmless"))
            return row
        request = command.request_class.FromString(row.request)
        try:
            verdict = await self._judge(command, request)
        except HisError as error:
            return await self._advance(row, self._ledger.probed(row, f"the probe failed: {error.detail}"))
        if verdict.finding is Finding.DONE and verdict.response is not None:
            return await self._advance(row, self._ledger.done(row, verdict.response))
        if verdict.finding is Finding.OTHER:
            return await self._advance(row, self._ledger.probed(row, verdict.detail))
        if not settled:  # NOT_DONE and REFUSED rest on absence
            return await self._advance(row, self._ledger.probed(row, "not seen in the HIS yet"))
        if verdict.finding is Finding.REFUSED:
            return await self._advance(row, self._ledger.rejected(row, verdict.reason, verdict.detail))
        unavailable = reason_pb2.REASON_HIS_UNAVAILABLE
        return await self._advance(row, self._ledger.retryable(row, unavailable, "the HIS did not do it"))

    async def _advance(self, row: CommandRow, following: CommandRow) -> CommandRow:
        _LOG.info(
            "probed",
            extra={
                "operation": row.operation,
                "request_id": row.request_id,
                "state": following.state.value,
                "probes": following.probes,
                "detail": following.detail,
            },
        )
        return await self._ledger.advance(row, following)

    async def _judge(self, command: Command, request: Message) -> Verdict:
        """Asks the probes in turn. The first to find anything decides; absence is only believed when all agree."""
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
