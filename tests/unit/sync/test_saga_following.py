"""What comes next in a saga, checked in every state that a saga can come to, and in states that it cannot.

The saga's own functions run here, without store and network: each decision is followed with every outcome that it may
have, cut off or not, with and without a caller, until no new state appears (as Patroni does with its quorum).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from his160.v1 import reason_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from his_db.errors import HisError, HisRefused
from sync import saga as course
from sync import settlement_record
from sync.commands import COMMANDS
from sync.money_book import SettlementRow
from sync.redaction import without_personal
from sync.registry import SAGAS, load_sagas
from sync.saga import Refused, Saga, Step, Unknown, following, is_owed
from sync.saga_context import Books, Context
from sync.saga_ledger import batch_of
from sync.store import CommandRow, CommandState
from tests.unit.sync.bench import CANCEL, CONFIRM, REFUND, cancel, confirm, lost_before, refund
from tests.unit.sync.test_sagas import RULES, Scene
from tests.unit.sync.world import CREATE, QUOTE, REVERSE, SETTLE, create, quote, reverse, settle, split

R = reason_pb2
ENDS = (course.Done, course.Rejected, course.Again, course.Stuck)


@dataclass(frozen=True)
class Sample:
    """A command at its beginning, with what looks would answer, and what each step would answer."""

    saga: Saga
    start: Context
    answers: Mapping[str, Message]


class Recorder(Scene):
    """A scene that remembers what was answered, by operation, and the first context of each saga."""

    def __init__(self, folder: Path, variant: str) -> None:
        super().__init__(folder, variant)
        self.answers: dict[str, Message] = {}
        self.starts: dict[str, Context] = {}
        write, opened = self.his.write, self.run._sagas._opened

        async def writing(operation: str, request: Message, **others: Any) -> Message:
            answer = await write(operation, request, **others)
            self.answers[operation] = answer
            return answer

        async def opening(parent: CommandRow, request: Message | None) -> Context:
            context = await opened(parent, request)
            self.starts.setdefault(parent.step, context)
            return context

        self.his.write = writing  # type: ignore[method-assign]
        self.run._sagas._opened = opening  # type: ignore[method-assign]

    async def do(self, operation: str, request: Any) -> Any:
        try:
            return await self.run.execute(operation, request)
        except HisError:
            return None


def well(work: Any) -> Any:
    """No fault."""
    return work()


async def samples(folder: Path) -> dict[str, Sample]:
    """Every saga, as the small hospital plays it."""
    found: dict[str, Sample] = {}
    for variant in ("gateway", "centre"):
        place = folder / variant
        place.mkdir()
        found.update(await played(Recorder(place, variant)))
    return found


async def played(scene: Recorder) -> dict[str, Sample]:
    found: dict[str, Sample] = {}
    await scene.do(CREATE, create(number="W0", request_id="w0"))
    scene.his.pay("W0")  # and nobody confirms it
    scene.clock.advance(hours=3)
    await scene.run.sweep()
    await scene.do(CREATE, create())
    scene.his.pay("W1")
    await scene.do(CONFIRM, confirm())
    await scene.do(REFUND, refund())
    await scene.do(CANCEL, cancel())
    scene.his.orders["T1"].state = 2  # booked again
    scene.his.orders["T1"].out_trade_no = ""
    await scene.store.write(lambda work: work.commands.prune(scene.clock.now.replace(year=2030)))
    await scene.do(QUOTE, quote())
    scene.clock.advance(hours=1)
    await scene.run.sweep()
    scene.his.pay("W2", 600)
    settled = await scene.do(SETTLE, settle(number="W2"))
    await scene.do(REVERSE, reverse(settled.settlement.setl_id))
    scene.his.orders["T1"].state = 2
    scene.his.pay("W3", 600)  # one that is undone, for the answers of the steps back
    scene.his.faults.extend([*[well] * 4, lost_before])
    await scene.do(SETTLE, settle(request_id="s3", number="W3", agreed=split()))
    scene.clock.advance(hours=1)
    await scene.run.sweep()
    for name, start in scene.starts.items():
        saga = load_sagas()[name]
        found[name] = Sample(saga, replace(start, facts=facts(scene, saga, start), rules=RULES), scene.answers)
    await scene.store.close()
    return found


def facts(scene: Recorder, saga: Saga, start: Context) -> dict[str, Message | None]:
    """What the looks of a saga answer at its beginning (an order that may go on, a trade that is paid)."""
    answers: dict[str, Message | None] = {}
    order = scene.his.orders["T1"]
    kept = order.state
    order.state = 3 if "re" in saga.name[:2] else 2
    looks = [look for step in (*saga.steps, *saga.undo) for look in step.looks]
    for look in (*looks, *saga.closing):
        request = look.request(replace(start, facts=answers))
        if request is None or not scene.his.maps(look.operation):
            continue
        try:
            answers[look.name] = scene.his._read(look.operation, request)
        except (HisRefused, AssertionError):
            answers[look.name] = None
    order.state = kept
    return answers


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    return asyncio.run(samples(tmp_path_factory.mktemp("samples")))


@dataclass(frozen=True)
class Node:
    """Rows and the sealed record: all that is durable of a saga."""

    rows: tuple[tuple[str, CommandRow], ...]
    settlement: SettlementRow | None

    @property
    def key(self) -> Any:
        states = tuple((name, row.state, row.reason) for name, row in self.rows)
        return states, None if self.settlement is None else (self.settlement.state, self.settlement.setl_id)


def context_of(sample: Sample, node: Node, *, caller: bool, patient: bool, tried: frozenset[str]) -> Context:
    return replace(
        sample.start,
        rows=dict(node.rows),
        books=replace(sample.start.books, settlement=node.settlement),
        has_caller=caller,
        is_patient=patient,
        tried=tried,
    )


def row_of(sample: Sample, step: Step, state: CommandState, *, reason: int = 0, result: bytes = b"") -> CommandRow:
    return CommandRow(
        request_id=f"x.{step.name}",
        operation=step.operation,
        payload_hash=b"",
        essence_hash=b"",
        order_key=sample.start.parent.order_key,
        natural_key="",
        state=state,
        received_time=sample.start.now,
        sent_time=sample.start.now,
        reason=reason,
        detail="test",
        result=result,
        parent="x",
        step=step.name,
    )


def sent(sample: Sample, context: Context, step: Step) -> tuple[CommandRow, SettlementRow | None]:
    """The step on disk as SENT, as the saga builds it."""
    message: Any = step.build(replace(context, number="H44030000001" + "2" * 18))
    row = replace(
        row_of(sample, step, CommandState.SENT),
        request=without_personal(message).SerializeToString(deterministic=True),
    )
    opening = settlement_record.Opening(context.order_no, "x", batch_of(context))
    return row, settlement_record.when_sent(context.books.settlement, message, opening, context.now)


def outcomes(sample: Sample, step: Step, row: CommandRow, settlement: SettlementRow | None) -> Iterator[Node]:
    """Everything that may become of a step that was sent: rows as the ledger would write them."""
    node = Node((), settlement)
    for state, reason in (
        (CommandState.SENT, 0),  # the process died
        (CommandState.UNKNOWN, R.REASON_OUTCOME_UNKNOWN),
        (CommandState.RETRYABLE, R.REASON_HIS_UNAVAILABLE),
        (CommandState.REJECTED, R.REASON_INSURANCE_REFUSED),
    ):
        yield replace(node, rows=((step.name, replace(row, state=state, reason=reason)),))
    yield answered(sample, step, row, settlement)


def answered(sample: Sample, step: Step, row: CommandRow, settlement: SettlementRow | None) -> Node:
    answer = sample.answers.get(step.operation) or COMMANDS[step.operation].response_class()
    kept = without_personal(answer) if COMMANDS[step.operation].seals else answer
    done = replace(row, state=CommandState.DONE, reason=0, result=kept.SerializeToString(deterministic=True))
    return Node(((step.name, done),), settlement_record.when_done(settlement, answer, sample.start.now))


def probed(sample: Sample, step: Step, row: CommandRow, settlement: SettlementRow | None) -> Iterator[Node]:
    """Everything that a probe may find."""
    lost = step.unknown is Unknown.VOID
    absent = R.REASON_OUTCOME_UNKNOWN if lost else R.REASON_HIS_UNAVAILABLE
    for state, reason in (
        (CommandState.RETRYABLE, absent),
        (CommandState.REJECTED, R.REASON_INSURANCE_REFUSED),
    ):
        yield Node(((step.name, replace(row, state=state, reason=reason)),), settlement)
    if COMMANDS[step.operation].probes:
        yield answered(sample, step, row, settlement)


def merged(node: Node, change: Node) -> Node:
    return Node(tuple({**dict(node.rows), **dict(change.rows)}.items()), change.settlement)


def check(saga: Saga, context: Context, decision: course.Decision) -> None:
    """What must hold of every decision, whatever the rows are."""
    turned = any(step.name in context.rows for step in saga.undo)
    match decision:
        case course.Run(step):
            assert step in saga.steps
            assert not turned, "forward after it had turned"
            assert context.state(step.name) in (None, CommandState.RETRYABLE)
            assert step.name not in context.tried
            assert context.has_caller or not step.needs_caller
            if step.unknown is Unknown.VOID and step.name in context.rows:
                assert context.rows[step.name].reason != R.REASON_OUTCOME_UNKNOWN, "sent twice without an answer"
            before = saga.steps[: saga.steps.index(step)]
            assert all(is_past(earlier, context) for earlier in before)
        case course.Compensate(step):
            assert step in saga.undo
            assert context.state(step.name) in (None, CommandState.RETRYABLE)
            before = saga.undo[: saga.undo.index(step)]
            assert all(is_past(earlier, context) for earlier in before)
            for earlier in saga.steps:
                if earlier.unknown is not Unknown.UNDO:
                    assert not is_open(context, earlier), "undoing what may still happen"
        case course.Probe(step):
            assert is_open(context, step)
            assert step.name not in context.tried
        case course.Done():
            assert not turned
            assert not any(look.name in context.rows for look in saga.closing), "answered in spite of a look"
            assert all(is_past(step, context) for step in saga.steps)
        case course.Rejected(refusal) | course.Again(refusal):
            assert refusal.final == isinstance(decision, course.Rejected)
            assert refusal.reason
            for step in saga.steps:
                assert not is_open(context, step) or step.unknown is Unknown.UNDO
            assert all(is_past(step, context) for step in saga.undo), "ended with something to undo"
            assert not saga.is_bound(context), "ended refused behind the point of no return"
        case course.Stuck(step):
            assert context.state(step.name) in (CommandState.REJECTED, CommandState.DONE)
        case course.Wait(step):
            assert step in (*saga.steps, *saga.undo)


def is_open(context: Context, step: Step) -> bool:
    return context.state(step.name) in (CommandState.SENT, CommandState.UNKNOWN)


def is_past(step: Step, context: Context) -> bool:
    """Done, passed over, or not needed."""
    row = context.rows.get(step.name)
    if row is None:
        return not step.wanted(context)
    if row.state is CommandState.REJECTED:
        return step.meaning(row) is Refused.PASS
    return row.state is CommandState.DONE


def explore(sample: Sample, most: int = 20_000) -> tuple[dict[Any, Node], dict[Any, set[Any]], set[Any]]:
    """All durable states that can be reached, the steps between them, and those from which it may end at once."""
    first = Node((), sample.start.books.settlement)
    found: dict[Any, Node] = {first.key: first}
    arrows: dict[Any, set[Any]] = {}
    ended: set[Any] = set()
    waiting = deque([first])
    while waiting:
        node = waiting.popleft()
        arrows.setdefault(node.key, set())
        for caller, patient in ((True, True), (False, True), (False, False)):
            context = context_of(sample, node, caller=caller, patient=patient, tried=frozenset())
            decision = following(sample.saga, context)
            check(sample.saga, context, decision)
            if isinstance(decision, ENDS):
                ended.add(node.key)
            for change in changes(sample, context, decision):
                after = merged(node, change)
                arrows[node.key].add(after.key)
                if after.key not in found:
                    found[after.key] = after
                    waiting.append(after)
                    assert len(found) < most
            for name in dict(node.rows):
                held = replace(context, tried=frozenset({name}))
                check(sample.saga, held, following(sample.saga, held))
    return found, arrows, ended


def changes(sample: Sample, context: Context, decision: course.Decision) -> Iterator[Node]:
    match decision:
        case course.Run(step) | course.Compensate(step):
            row, settlement = sent(sample, context, step)
            yield from outcomes(sample, step, row, settlement)
        case course.Probe(step):
            yield from probed(sample, step, context.rows[step.name], context.books.settlement)
        case course.Done():
            for look in sample.saga.closing:
                word = sample.saga.word(look)
                for state in (CommandState.REJECTED, CommandState.RETRYABLE):
                    row = row_of(sample, word, state, reason=R.REASON_INSURANCE_REFUSED)
                    yield Node(((word.name, row),), context.books.settlement)


@pytest.mark.parametrize("name", sorted(SAGAS))
def test_every_state_that_a_saga_can_come_to(name: str, every: dict[str, Sample]) -> None:
    """In each of them the next thing is right, and there is a way from each of them to an end."""
    found, arrows, ended = explore(every[name])
    towards: dict[Any, set[Any]] = {key: set() for key in found}
    for key, following_keys in arrows.items():
        for after in following_keys:
            towards[after].add(key)
    reaching = set(ended)
    waiting = list(ended)
    while waiting:
        for before in towards[waiting.pop()]:
            if before not in reaching:
                reaching.add(before)
                waiting.append(before)
    assert reaching == set(found), "a state without a way out"
    assert len(found) >= (100 if name.startswith("settle") else 6)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_rows_whatever(data: st.DataObject, every: dict[str, Sample]) -> None:
    """Also rows that no run makes (a person's hand, a defect): always one decision, and never a wrong one."""
    sample = every[data.draw(st.sampled_from(sorted(every)))]
    steps = (*sample.saga.steps, *sample.saga.undo)
    rows: list[tuple[str, CommandRow]] = []
    settlement = sample.start.books.settlement
    for step in steps:
        state = data.draw(st.sampled_from([None, *CommandState]))
        if state is None:
            continue
        reasons = [R.REASON_HIS_UNAVAILABLE, R.REASON_OUTCOME_UNKNOWN, R.REASON_INSURANCE_REFUSED, R.REASON_NOT_PAID]
        reason = data.draw(st.sampled_from(reasons))
        node = answered(sample, step, row_of(sample, step, CommandState.SENT), settlement)
        row = node.rows[0][1]
        if state is not CommandState.DONE:
            row = replace(row, state=state, reason=reason, result=b"")
        elif data.draw(st.booleans()):
            row = replace(row, result=b"")  # a person said that it is done
        rows.append((step.name, row))
    tried = frozenset(data.draw(st.sets(st.sampled_from([step.name for step in steps]))))
    context = context_of(
        sample,
        Node(tuple(rows), settlement),
        caller=data.draw(st.booleans()),
        patient=data.draw(st.booleans()),
        tried=tried,
    )
    decision = following(sample.saga, context)
    assert decision == following(sample.saga, context)
    if not isinstance(decision, course.Rejected | course.Again):  # a person may undo what is past its point of return
        check(sample.saga, context, decision)


def test_money_goes_back_only_when_the_his_has_refused_it(every: dict[str, Sample]) -> None:
    sample = every["confirm_payment"]
    step = sample.saga.step("register")
    for reason in reason_pb2.Reason.values():
        row = row_of(sample, step, CommandState.REJECTED, reason=reason)
        context = context_of(sample, Node((("register", row),), None), caller=True, patient=True, tried=frozenset())
        decision = following(sample.saga, context)
        kept = {
            R.REASON_PAYMENT_NUMBER_REUSED,
            R.REASON_NOT_PAID,
            R.REASON_ALREADY_REFUNDED,
            R.REASON_PAYMENT_NOT_FOUND,
        }
        assert isinstance(decision, course.Rejected if reason in kept else course.Compensate)
        assert is_owed(sample.saga, context) == (reason not in kept)
    for state in (CommandState.SENT, CommandState.UNKNOWN):
        row = row_of(sample, step, state, reason=R.REASON_OUTCOME_UNKNOWN)
        context = context_of(
            sample, Node((("register", row),), None), caller=False, patient=False, tried=frozenset({"register"})
        )
        assert isinstance(following(sample.saga, context), course.Wait)


def test_books_default_to_nothing() -> None:
    assert Books() == Books(history=(), settlement=None, refunds=())
