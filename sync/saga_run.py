"""Running sagas: does what ``following`` says, one thing at a time, each on disk before it leaves."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from google.protobuf.message import Message
from his160.site.v1 import mobile_payment_pb2, registration_pb2
from his160.v1 import reason_pb2

from his_db.errors import DeadlinePassed, HisError, HisRefused, OperationNotMapped, OutcomeUnknown, SwitchedOff
from sync import saga as course
from sync import settlement_record
from sync.clock import Clock
from sync.commands import COMMANDS
from sync.his import HisPort
from sync.ledger import Ledger
from sync.probing import Prober
from sync.reasons import TRANSIENT
from sync.saga import Look, Refusal, Saga, Step, Unknown, following, is_possible
from sync.saga_context import Context, SagaRules
from sync.saga_ledger import Begun, SagaLedger
from sync.saga_refund import refund_of, told
from sync.store import CommandRow, CommandState, Store, StoreError
from sync.verdict import Finding

_LOG = logging.getLogger("his160.sync.saga")
_LOOK: Final = timedelta(seconds=10)  # for one look, whoever waits for it
_MOST: Final = 64  # more decisions in one run than any saga has steps: a defect, not a loop


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of a saga ended: the command's row now, what it answers, and why it is held up where it is open.

    ``error``: of the step that held it up, None where it ended or waits for a person. ``metadata``: for the caller.
    """

    row: CommandRow
    response: Message | None = None
    error: HisError | None = None
    metadata: Mapping[str, str] | None = None


class SagaRunner:
    """Drives sagas. For one event loop; the caller holds the locks of the command's order and number."""

    def __init__(
        self,
        his: HisPort,
        store: Store,
        ledger: Ledger,
        prober: Prober,
        clock: Clock,
        *,
        sagas: Mapping[str, Saga],
        rules: SagaRules,
        monotonic: Callable[[], float] = time.monotonic,
        appended: Callable[[], None] = lambda: None,
    ) -> None:
        self._his = his
        self._ledger = ledger
        self._prober = prober
        self._clock = clock
        self._sagas = sagas
        self._rules = rules
        self._monotonic = monotonic
        self._appended = appended
        self.books = SagaLedger(store, ledger, clock, rules)

    @property
    def undoing_quote(self) -> Saga:
        """By which the agent itself undoes a quote that nobody settled."""
        return self._sagas["undo_quote"]

    @property
    def returning_payment(self) -> Saga:
        """By which the agent itself gives back what was paid and never confirmed."""
        return self._sagas["return_payment"]

    def chosen(self, operation: str) -> Saga | None:
        """The saga that a command runs as at this site now; None: a single statement, or not at all."""
        for saga in self._sagas.values():
            if saga.operation == operation and not saga.is_own and is_possible(saga, self._his.maps, self._rules):
                return saga
        return None

    def named(self, row: CommandRow) -> Saga | None:
        """The saga that a command of the ledger runs as; None: it is a single statement."""
        return self._sagas[row.step] if row.step and not row.parent else None

    async def drive(
        self, saga: Saga, parent: CommandRow, request: Message | None, *, deadline: float | None = None
    ) -> Outcome:
        """Goes as far as can be gone now. ``request``: the caller's, None when nobody asks.

        Raises StoreError: nothing was sent; and OutcomeUnknown when something was, and the store has lost it.
        """
        context = await self._opened(parent, request)
        run = _Run(self, saga, context, deadline)
        try:
            return await run.to_its_end()
        except StoreError as error:
            if not run.has_sent and not context.rows:
                raise
            raise OutcomeUnknown(
                "what became of a step waits for the state store", retry_after=error.retry_after
            ) from error

    async def _opened(self, parent: CommandRow, request: Message | None) -> Context:
        has_caller = request is not None
        if request is None:
            request = COMMANDS[parent.operation].request_class.FromString(parent.request)
        rows, books = await self.books.open(parent, request)
        since = parent.finished_time or parent.sent_time
        return Context(
            parent=parent,
            request=request,
            rows=rows,
            books=books,
            rules=self._rules,
            now=self._clock(),
            has_caller=has_caller,
            is_patient=has_caller or self._clock() - since < self._rules.patience,
            maps=self._his.maps,
        )


class _Run:
    """One run of one saga."""

    def __init__(self, runner: SagaRunner, saga: Saga, context: Context, deadline: float | None) -> None:
        self._runner = runner
        self._saga = saga
        self._context = context
        self._deadline = deadline
        self._sent: set[str] = set()
        self._error: HisError | None = None

    @property
    def has_sent(self) -> bool:
        return bool(self._sent)

    async def to_its_end(self) -> Outcome:
        if not self._context.rows:
            refusal = self._entered() or self._saga.check(self._context)
            if refusal is not None:
                return await self._end(course.Rejected(refusal) if refusal.final else course.Again(refusal))
        for _ in range(_MOST):
            decision = following(self._saga, self._context)
            if isinstance(decision, course.Done):
                decision = await self._closed(decision)
            match decision:
                case course.Run(step) | course.Compensate(step):
                    await self._send(step)
                case course.Probe(step):
                    await self._probe(step)
                case course.Wait(step):
                    return await self._held(f"waits at {step.name}")
                case course.Stuck(step, detail):
                    self._error = None
                    return await self._held(f"a person must look: {step.name} was refused: {detail}")
                case _:
                    return await self._end(decision)
        raise RuntimeError(f"the saga {self._saga.name} does not come to an end")

    def _entered(self) -> Refusal | None:
        """A command that a person has switched off does not begin; one that has begun comes to its end."""
        try:
            self._runner._his.enter(self._saga.operation)
        except SwitchedOff as error:
            self._error = error
            return Refusal(error.reason, error.detail, final=False)
        return None

    async def _send(self, step: Step) -> None:
        for look in step.looks:
            refusal = await self._look(look)
            if refusal is not None:
                await self._refuse(step, refusal)
                return
        if following(self._saga, self._context) not in (course.Run(step), course.Compensate(step)):
            return  # what the looks found leads another way
        begun = await self._runner.books.begin(step, self._context)
        self._note(begun.row, begun.settlement)
        deadline, self._deadline = (None, None) if self._sent else (self._deadline, None)
        self._sent.add(step.name)
        try:
            response = await self._runner._his.write(
                step.operation, begun.message, key=write_key(begun.row.request_id), deadline=deadline
            )
        except HisError as error:
            self._error = error
            await self._after_error(step, begun.row, begun.message, error)
        except Exception as error:  # noqa: BLE001 - after SENT a defect below means that the outcome is not known
            _LOG.exception("step failed unexpectedly", extra={"operation": step.operation})
            detail = f"unexpected {type(error).__name__}"
            await self._record(step, begun.row, self._ledger.unknown(begun.row, detail), None)
        else:
            await self._record(step, begun.row, *self._answered(step, begun, response))

    def _answered(self, step: Step, begun: Begun, response: Message) -> tuple[CommandRow, Message | None]:
        """The row after an answer, which may say that it is not the end yet."""
        if step.verdict is None:
            return self._ledger.done(begun.row, response), response
        verdict = step.verdict(begun.message, response)
        if verdict.finding is Finding.DONE:
            return self._ledger.done(begun.row, response), response
        if verdict.finding is Finding.REFUSED:
            return self._ledger.rejected(begun.row, verdict.reason, verdict.detail), None
        return self._ledger.unknown(begun.row, verdict.detail or "the answer is not the end yet"), None

    async def _after_error(self, step: Step, row: CommandRow, message: Message, error: HisError) -> None:
        following_row = self._ledger.after_error(row, error)
        response: Message | None = None
        if step.doubts and following_row.state is CommandState.REJECTED:
            following_row, response = await self._doubted(row, message, following_row)
        if following_row.state is CommandState.RETRYABLE:
            self._try_no_more(step)
        await self._record(step, row, following_row, response)

    async def _doubted(
        self, row: CommandRow, message: Message, refused: CommandRow
    ) -> tuple[CommandRow, Message | None]:
        """A refusal is believed when the other side does not show it done (已支付勿重复 after a lost answer)."""
        try:
            verdict = await self._runner._prober.verdict(COMMANDS[row.operation], message)
        except HisError as error:
            return self._ledger.unknown(row, f"refused, and the probe failed: {error.detail}"), None
        if verdict.finding is Finding.DONE and verdict.response is not None:
            return self._ledger.done(row, verdict.response), verdict.response
        if verdict.finding is Finding.REFUSED:
            return self._ledger.rejected(row, verdict.reason, verdict.detail), None
        if verdict.finding is Finding.OTHER:
            return self._ledger.unknown(row, f"refused, but {verdict.detail}"), None
        return refused, None

    async def _look(self, look: Look) -> Refusal | None:
        """What speaks against going on, as far as this look says."""
        if look.name not in self._context.facts:
            request = look.request(self._context)
            if request is None:
                return None
            try:
                answer = await self._ask(look, request)
            except HisError as error:
                if look.is_optional and isinstance(error, OperationNotMapped):
                    return None
                self._error = error
                if look.is_word and isinstance(error, HisRefused) and error.reason not in TRANSIENT:
                    return Refusal(error.reason, error.detail)
                reason = error.reason if error.reason in TRANSIENT else reason_pb2.REASON_HIS_UNAVAILABLE
                return Refusal(reason, f"the look failed: {error.detail}", final=False)
            self._context = replace(self._context, facts={**self._context.facts, look.name: answer})
            self._adopt(answer)
        refusal = look.judge(self._context, self._context.facts[look.name])
        if refusal is not None and not refusal.final:
            self._error = HisRefused(refusal.reason, refusal.detail)
        if refusal is None:
            self._keep(self._context.facts[look.name])
        return refusal

    def _adopt(self, answer: Message | None) -> None:
        """Goes on with a settlement that the HIS has and the agent did not make."""
        if isinstance(answer, registration_pb2.GetInsuredRegistrationResponse):
            row = self._runner.books.adopted(self._context, answer.settlement)
            self._context = replace(self._context, books=replace(self._context.books, settlement=row))

    def _keep(self, answer: Message | None) -> None:
        """Keeps of an answer that is well what a later command needs; on disk with the next step, or with the end."""
        books, kept = self._context.books, None
        if isinstance(answer, mobile_payment_pb2.QueryOrderResponse):
            kept = settlement_record.when_told(books.settlement, answer, self._context.now)
        if kept is not None:
            self._context = replace(self._context, books=replace(books, settlement=kept))

    async def _refuse(self, step: Step, refusal: Refusal) -> None:
        if not refusal.final:
            self._try_no_more(step)
        row = await self._runner.books.refuse(step, self._context, refusal.reason, refusal.detail, final=refusal.final)
        self._note(row, self._context.books.settlement)

    async def _closed(self, decision: course.Decision) -> course.Decision:
        """What remains when every step is done: the looks before the answer may still turn it back."""
        for look in self._saga.closing:
            refusal = await self._look(look)
            if refusal is None:
                continue
            is_passing = refusal.reason in course.NOT_NOW and not refusal.final
            if is_passing and self._context.is_patient and course.is_owed(self._saga, self._context):
                return course.Wait(self._saga.steps[-1])
            await self._refuse(self._saga.word(look), refusal)
            return following(self._saga, self._context)
        return decision

    async def _ask(self, look: Look, request: Any) -> Message | None:
        if "msgid" in request.DESCRIPTOR.fields_by_name and self._runner._rules.institution:
            request.msgid = await self._runner.books.number()
        until = self._runner._monotonic() + _LOOK.total_seconds()
        if self._deadline is not None:
            if self._runner._monotonic() >= self._deadline:
                raise DeadlinePassed("the deadline passed before anything was sent")
            until = min(until, self._deadline)
        try:
            return await self._runner._his.read(look.operation, request, deadline=until)
        except HisRefused as error:
            if reason_pb2.Reason.Name(error.reason).endswith("_NOT_FOUND"):
                return None
            raise

    async def _probe(self, step: Step) -> None:
        row = self._context.rows[step.name]
        request = COMMANDS[row.operation].request_class.FromString(row.request)
        whole = settlement_record.made_whole(request, self._context.books.settlement)
        lost = step.unknown is Unknown.VOID
        absent = reason_pb2.REASON_OUTCOME_UNKNOWN if lost else reason_pb2.REASON_HIS_UNAVAILABLE
        found = await self._runner._prober.look(row, whole, repeat=True, absent=absent)
        if found.row.state.is_open or step.name in self._sent:
            self._try_no_more(step)
        following_row = found.row if found.response is None else replace(found.row, detail=course.FOUND)
        await self._record(step, row, following_row, found.response)

    async def _record(self, step: Step, row: CommandRow, following_row: CommandRow, response: Message | None) -> None:
        _LOG.info(
            "step",
            extra={
                "saga": self._saga.name,
                "step": step.name,
                "request_id": row.request_id,
                "state": following_row.state.value,
                "reason": following_row.reason,
                "attempt": row.attempt,
            },
        )
        settlement = await self._runner.books.record(row, following_row, response, self._context.books.settlement)
        self._note(following_row, settlement)

    async def _held(self, detail: str) -> Outcome:
        context = self._context
        row = await self._runner.books.hold(context.parent, detail, has_caller=context.has_caller)
        return Outcome(row, error=self._error, metadata=told(refund_of(context)))

    async def _end(self, decision: course.Decision) -> Outcome:
        context, parent = self._context, self._context.parent
        response: Message | None = None
        event = None
        refund = refund_of(context)
        match decision:
            case course.Done():
                response = self._saga.respond(context)
                row = self._ledger.done(parent, response)
            case course.Rejected(refusal):
                row = self._ledger.rejected(parent, refusal.reason, refusal.detail)
                if refund is not None:  # a repetition is told of it, too
                    row = replace(row, result=refund.SerializeToString(deterministic=True))
                event = self._saga.event(context, refusal)
            case course.Again(refusal):
                row = self._ledger.retryable(parent, refusal.reason, refusal.detail)
                if self._error is None or self._error.reason != refusal.reason:
                    self._error = HisRefused(refusal.reason, refusal.detail)
            case _:
                raise AssertionError(f"{decision} is no end")
        undone = [step for step in context.rows.values() if step.state.is_open]
        row = await self._runner.books.end(parent, row, undone=undone, event=event, settlement=context.books.settlement)
        if event is not None:
            self._runner._appended()
        return Outcome(row, response, self._error, told(refund))

    def _note(self, row: CommandRow, settlement: Any) -> None:
        context = self._context
        books = replace(context.books, settlement=settlement)
        self._context = replace(context, rows={**context.rows, row.step: row}, books=books)

    def _try_no_more(self, step: Step) -> None:
        self._context = replace(self._context, tried=self._context.tried | {step.name})

    @property
    def _ledger(self) -> Ledger:
        return self._runner._ledger


def write_key(request_id: str) -> str:
    """32 hex digits, the same for every attempt of a command or step."""
    return hashlib.sha256(request_id.encode()).hexdigest()[:32]
