"""Commands over several systems, as data; and what comes next, as a pure function.

A saga has steps forward and steps back. Each step is a row of the ledger (``parent``, ``step``): SENT before it leaves,
UNKNOWN when cut off. ``following`` looks at the rows and says the one thing to do next. There is no call stack to lose:
after a crash at any point, the same rows give the same answer.

Forward until a step is refused, or answers something that must not stand, or cannot go on without a caller who has
gone; then back through everything that has, or may have, taken effect; a step back is repeated until it is answered.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.message import Message
from his160.v1 import event_pb2, reason_pb2

from sync.reasons import TRANSIENT
from sync.saga_context import Context, SagaRules
from sync.store import CommandRow, CommandState
from sync.verdict import Verdict

Reason: TypeAlias = reason_pb2.Reason.ValueType


class Unknown(enum.Enum):
    """What to do with a step whose outcome is not known."""

    PROBE = "PROBE"  # ask; what was not done is done again
    VOID = "VOID"  # ask; what is not found is never sent again, but undone
    UNDO = "UNDO"  # do not ask: the step back makes it undone either way


class Refused(enum.Enum):
    """What a refusal of a step means."""

    BACK = "BACK"  # the command is refused, what was done is undone
    PASS = "PASS"  # noqa: S105 - nothing depends on it: on
    PERSON = "PERSON"  # must not happen: stays open until a person decides


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a saga turns back. ``final``: the same request will be refused again; else it may run again."""

    reason: Reason
    detail: str
    final: bool = True


Judge: TypeAlias = Callable[[Context, Message | None], Refusal | None]


@dataclass(frozen=True, slots=True)
class Look:
    """A read that must be well before a step is sent.

    ``request`` None: not needed. ``judge`` gets the answer, None when there is no such thing. ``is_optional``: a site
    that does not map it goes without. ``is_word``: a refusal of the read is the word on the command; of other reads it
    says only that they could not be had.
    """

    name: str
    operation: str
    request: Callable[[Context], Message | None]
    judge: Judge
    is_optional: bool = False
    is_word: bool = False


def _always(_: Context) -> bool:
    return True


def _never(_: Context) -> bool:
    return False


def _as_it_is(_: Context, refusal: Refusal) -> Refusal:
    return refusal


def _no_fault(_: Context) -> Refusal | None:
    return None


@dataclass(frozen=True, slots=True)
class Step:
    """One write of a saga.

    ``build``: its request. ``wanted``: whether it is needed at all. ``looks``: made before it is sent, in order.
    ``fault``: of a DONE step, whether what it answered must not stand. ``needs_caller``: the request needs short-lived
    data, or a will, that only the caller's own call brings. ``persists``: tried again by the agent itself until it is
    answered, also when nothing would have to be undone. ``is_numbered``: carries a msgid. ``doubts``: a refusal is
    believed only when the probes do not find it done. ``verdict``: of request and answer, where an answer may say that
    it is not the end yet. ``refused``: what a refusal means, or how that is told from the refused row.
    """

    name: str
    operation: str
    build: Callable[[Context], Message]
    wanted: Callable[[Context], bool] = _always
    looks: tuple[Look, ...] = ()
    fault: Callable[[Context], Refusal | None] = _no_fault
    needs_caller: bool = False
    persists: bool = False
    is_numbered: bool = False
    doubts: bool = False
    unknown: Unknown = Unknown.PROBE
    refused: Refused | Callable[[CommandRow], Refused] = Refused.BACK
    verdict: Callable[[Any, Any], Verdict] | None = None

    def meaning(self, row: CommandRow) -> Refused:
        """What it means that the step was refused."""
        return self.refused if isinstance(self.refused, Refused) else self.refused(row)


def _never_sent(_: Context) -> Message:
    raise AssertionError("a closing look is not sent")


def _no_event(_: Context, __: Refusal) -> event_pb2.Event | None:
    return None


@dataclass(frozen=True, slots=True)
class Saga:
    """A command as a saga. ``operation``: the served one. ``needs``: what the site must map, all of it.

    ``is_substitute``: used only where the site does not map the operation itself. ``is_own``: begun by the agent alone.
    ``check``: of the request alone, before anything. ``closing``: looks made before the answer. ``respond``: the
    answer, when every step is done. ``is_bound``: past its point of no return, there is only forward: what is refused
    then is a person's work. ``ends``: the refusal as the caller gets it. ``event``: what the platform must be told when
    it ends refused, written with the end.
    """

    name: str
    operation: str
    needs: frozenset[str]
    steps: tuple[Step, ...]
    undo: tuple[Step, ...]
    respond: Callable[[Context], Message]
    check: Callable[[Context], Refusal | None] = _no_fault
    closing: tuple[Look, ...] = ()
    is_bound: Callable[[Context], bool] = _never
    ends: Callable[[Context, Refusal], Refusal] = _as_it_is
    event: Callable[[Context, Refusal], event_pb2.Event | None] = _no_event
    is_substitute: bool = False
    is_own: bool = False

    def word(self, look: Look) -> Step:
        """What stands in the ledger for a closing look that was refused: a row of the command's own, never sent."""
        return Step(look.name, self.operation, _never_sent)

    @property
    def is_numbered(self) -> bool:
        """Whether it needs msgids, and so the institution's code."""
        return any(step.is_numbered for step in (*self.steps, *self.undo))

    def step(self, name: str) -> Step:
        """A step, forward or back, or what stands for a closing look, by its name. Raises KeyError."""
        for step in (*self.steps, *self.undo, *(self.word(look) for look in self.closing)):
            if step.name == name:
                return step
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Run:
    """Send the step, for the first time or again."""

    step: Step


@dataclass(frozen=True, slots=True)
class Compensate:
    """Send the step back, for the first time or again."""

    step: Step


@dataclass(frozen=True, slots=True)
class Probe:
    """Find out what became of the step."""

    step: Step


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done now: the other side, or the caller, must come back. The command stays open."""

    step: Step


@dataclass(frozen=True, slots=True)
class Stuck:
    """A person must look: the step was refused where that must not be. The command stays open."""

    step: Step
    detail: str


@dataclass(frozen=True, slots=True)
class Done:
    """Every step is done."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused for good, and everything is undone."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Again:
    """Everything is undone, and the same request may run again."""

    refusal: Refusal


Decision: TypeAlias = Run | Compensate | Probe | Wait | Stuck | Done | Rejected | Again

FOUND = "found by a look"
"""``detail`` of a step that was done, whose own answer was lost."""
_OPEN = frozenset({CommandState.SENT, CommandState.UNKNOWN})
# A step that did not happen for one of these reasons says "not now" of the other side, and nothing of the request.
NOT_NOW = TRANSIENT | {reason_pb2.REASON_UNSPECIFIED, reason_pb2.REASON_OUTCOME_UNKNOWN}


def following(saga: Saga, context: Context) -> Decision:
    """The one thing to do next, by the rows alone (and by who is there to ask)."""
    if any(step.name in context.rows for step in saga.undo):  # it has turned: there is no way forward again
        return backward(saga, context, _why(saga, context))
    for step in saga.steps:
        if step.name not in context.rows and not step.wanted(context):
            continue
        found = _forward(saga, step, context)
        if isinstance(found, Refusal):
            return Stuck(step, found.detail) if saga.is_bound(context) else backward(saga, context, found)
        if found is not None:
            return found
    refused = _refused_at_last(saga, context)
    return Done() if refused is None else backward(saga, context, refused)


def is_possible(saga: Saga, maps: Callable[[str], bool], rules: SagaRules) -> bool:
    """Whether a site with these mappings and rules runs the saga."""
    if saga.is_numbered and not saga.is_own and saga.is_substitute and not rules.institution:
        return False
    return all(maps(name) for name in saga.needs) and not (saga.is_substitute and maps(saga.operation))


def is_owed(saga: Saga, context: Context) -> bool:
    """Whether something has, or may have, taken effect that must be undone if the command does not come to its end."""
    return any(not context.is_done(step.name) and step.wanted(context) for step in saga.undo)


def _forward(saga: Saga, step: Step, context: Context) -> Decision | Refusal | None:
    """What is next with this step; None: it is done with, on to the next one."""
    row = context.rows.get(step.name)
    if row is not None and row.state is CommandState.DONE:
        return step.fault(context)
    if row is not None and row.state is CommandState.REJECTED:
        return _refused(step, row)
    if row is not None and row.state in _OPEN:
        if step.unknown is Unknown.UNDO:
            return Refusal(reason_pb2.REASON_HIS_UNAVAILABLE, f"{step.name} was cut off", final=False)
        return Wait(step) if step.name in context.tried else Probe(step)
    if row is not None and _is_lost(step, row):
        return Refusal(reason_pb2.REASON_HIS_UNAVAILABLE, f"{step.name} was never answered", final=False)
    if step.name not in context.tried and (context.has_caller or not step.needs_caller):
        return Run(step)
    return _held_up(saga, step, row, context)


def _held_up(saga: Saga, step: Step, row: CommandRow | None, context: Context) -> Wait | Refusal:
    """A step that cannot go on now: waits for the other side or for the caller, or turns the saga back."""
    reason = reason_pb2.Reason.ValueType(row.reason) if row is not None else reason_pb2.REASON_UNSPECIFIED
    detail = row.detail if row is not None else "the caller has gone"
    if saga.is_bound(context):
        return Wait(step)
    if reason not in NOT_NOW:
        return Refusal(reason, detail, final=False)
    if step.persists or (context.is_patient and is_owed(saga, context)):
        return Wait(step)
    return Refusal(reason or reason_pb2.REASON_HIS_UNAVAILABLE, detail, final=False)


def _refused(step: Step, row: CommandRow) -> Stuck | Refusal | None:
    meaning = step.meaning(row)
    if meaning is Refused.PASS:
        return None
    if meaning is Refused.PERSON:
        return Stuck(step, row.detail)
    return Refusal(reason_pb2.Reason.ValueType(row.reason), row.detail)


def _is_lost(step: Step, row: CommandRow) -> bool:
    """A step that was sent, never answered and not found: it must be undone, never sent again."""
    lost = row.state is CommandState.RETRYABLE and row.reason == reason_pb2.REASON_OUTCOME_UNKNOWN
    return step.unknown is Unknown.VOID and lost


def _refused_at_last(saga: Saga, context: Context) -> Refusal | None:
    """What a look before the answer has said against it; on disk, so that it is said once."""
    for look in saga.closing:
        row = context.rows.get(look.name)
        if row is not None and row.state in (CommandState.REJECTED, CommandState.RETRYABLE):
            is_final = row.state is CommandState.REJECTED
            return Refusal(reason_pb2.Reason.ValueType(row.reason), row.detail, final=is_final)
    return None


def backward(saga: Saga, context: Context, refusal: Refusal) -> Decision:
    """What is next on the way back: first what is not known, then each step back, then the end."""
    for step in saga.steps:
        if context.state(step.name) in _OPEN and step.unknown is not Unknown.UNDO:
            return Wait(step) if step.name in context.tried else Probe(step)
    for step in saga.undo:
        if step.name not in context.rows and not step.wanted(context):
            continue
        state = context.state(step.name)
        if state is CommandState.DONE:
            continue
        if state is CommandState.REJECTED:
            if step.meaning(context.rows[step.name]) is Refused.PASS:
                continue
            return Stuck(step, context.rows[step.name].detail)
        if step.name in context.tried:
            return Wait(step)
        return Probe(step) if state in _OPEN else Compensate(step)
    ended = saga.ends(context, refusal)
    return Rejected(ended) if ended.final else Again(ended)


def _why(saga: Saga, context: Context) -> Refusal:
    """Why it has turned: the first step that was refused, or answered what must not stand; else it was given up."""
    given_up = Refusal(reason_pb2.REASON_HIS_UNAVAILABLE, "it could not be brought to its end", final=False)
    for step in saga.steps:
        row = context.rows.get(step.name)
        if row is None:
            continue
        fault = step.fault(context) if row.state is CommandState.DONE else None
        if row.state is CommandState.REJECTED and step.meaning(row) is Refused.BACK:
            fault = Refusal(reason_pb2.Reason.ValueType(row.reason), row.detail)
        if fault is not None:
            return fault
        if row.state is CommandState.RETRYABLE:
            given_up = Refusal(reason_pb2.Reason.ValueType(row.reason), row.detail, final=False)
    return _refused_at_last(saga, context) or given_up
