"""The rush itself, and everything that is measured about it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from his160.v1 import common_pb2

from agent.demo.site import SITE
from agent.demo.story import order_number
from agent.rush.books import Verdict, judge
from agent.rush.caller import Caller
from agent.rush.figures import Fairness, Times, fairness, times
from agent.rush.patient import Patient, Story
from agent.rush.readers import BOOK, LOCK, Bookings, Comparison, Crowd, compare
from agent.rush.stage import Stage, TooSmall

READ: Final = "CatalogService.ListSlots"
PAY: Final = "PaymentService.ConfirmPayment"
_STATEMENTS: Final = "statements:his.read"
_RELEASE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """``pays``: share of patients who pay at once. ``spread``: seconds within which all arrive. ``seconds``: after that
    everybody goes home. ``crowd``: None leaves the comparison with and without readers out."""

    patients: int
    slots: int
    pays: float = 0.3
    spread: float = 1.0
    seconds: float = 120.0
    seed: int = 160
    crowd: Crowd | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a rush showed. ``numbers``: how many were released; ``calls``: all calls made, repetitions included;
    ``statements``: read statements that reached the HIS."""

    patients: int
    numbers: int
    seconds: float
    ends: dict[str, int]
    verdict: Verdict
    calls: int
    reads: Times
    statements: float
    bookings: Times
    payments: Times
    fairness: Fairness
    waits: dict[str, int]
    refusals: dict[str, int]
    comparison: Comparison | None

    @property
    def requests_per_statement(self) -> float:
        """How many read requests one read statement of the HIS answered."""
        return self.reads.calls / self.statements if self.statements else 0.0

    def summary(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "patients": self.patients,
            "numbers": self.numbers,
            "seconds": round(self.seconds, 2),
            "ends": self.ends,
            **self.verdict.summary(),
            "calls": self.calls,
            "queries": self.reads.summary(),
            "his_read_statements": int(self.statements),
            "requests_per_his_read_statement": round(self.requests_per_statement, 1),
            "bookings": self.bookings.summary(),
            "payments": self.payments.summary(),
            "fairness": self.fairness.summary(),
            "asked_to_wait": self.waits,
            "refusals": self.refusals,
            "readers": None if self.comparison is None else self.comparison.summary(),
        }


def run(stage: Stage, plan: Plan) -> Report:
    """Play it on the stage. Raises TooSmall, OutOfTime (the comparison alone), and what the stage raises."""
    released = stage.choose(plan.slots)
    patients = stage.free_for(released)
    if len(patients) < plan.patients:
        raise TooSmall(f"the sample HIS has {len(patients)} patients for a rush of {plan.patients}")
    stage.hold_back(released)
    return asyncio.run(_run(stage, plan, released, patients))


async def _run(stage: Stage, plan: Plan, released: Sequence[common_pb2.Schedule], patients: Sequence[str]) -> Report:
    chance = random.Random(plan.seed)  # noqa: S311 - who wants what is no secret
    caller = Caller(stage.site.control_address, SITE, chance)
    try:
        comparison = await _compare(stage, plan, released, caller)
        stories = _stories(patients, plan, chance)
        before = await asyncio.to_thread(stage.figures)
        caller.tally = type(caller.tally)()
        started = time.monotonic()
        await _rush(stage, plan, released, stories, caller, chance)
        seconds = time.monotonic() - started
        after = await asyncio.to_thread(stage.figures)
    finally:
        await caller.close()
    numbers = {session.schedule_id: session.free_count for session in released}
    tally = caller.tally
    return Report(
        patients=len(stories),
        numbers=sum(numbers.values()),
        seconds=seconds,
        ends=dict(Counter(story.end.value for story in stories)),
        verdict=judge(stories, stage.orders(), numbers),
        calls=tally.calls,
        reads=times(tally.seconds[READ]),
        statements=after.get(_STATEMENTS, 0.0) - before.get(_STATEMENTS, 0.0),
        bookings=times([*tally.seconds[LOCK], *tally.seconds[BOOK]]),
        payments=times(tally.seconds[PAY]),
        fairness=fairness(stories),
        waits=dict(tally.waits),
        refusals=dict(tally.refusals),
        comparison=comparison,
    )


async def _compare(
    stage: Stage, plan: Plan, released: Sequence[common_pb2.Schedule], caller: Caller
) -> Comparison | None:
    if plan.crowd is None:
        return None
    caller.until = time.monotonic() + plan.seconds
    sessions = stage.choose(2 * plan.crowd.bookings + 2 * plan.crowd.bookers, released)
    bookings = Bookings(sessions, stage.free_for(sessions), f"{order_number()}C")
    looked_at = [session.schedule_id for session in released]
    return await compare(caller, bookings, looked_at, plan.crowd, plan.seed)


def _stories(patients: Sequence[str], plan: Plan, chance: random.Random) -> list[Story]:
    chosen = chance.sample(patients, plan.patients)
    number = order_number()
    return [Story(at, f"{number}R{at:05d}", patient, chance.random() < plan.pays) for at, patient in enumerate(chosen)]


async def _rush(
    stage: Stage,
    plan: Plan,
    released: Sequence[common_pb2.Schedule],
    stories: Sequence[Story],
    caller: Caller,
    chance: random.Random,
) -> None:
    """放号, and everybody at once: in the order of the stories, within ``plan.spread``."""
    start = time.monotonic() + _RELEASE_SECONDS
    caller.until = start + plan.seconds
    rushing = [
        Patient(story, caller, released, chance).go(start, story.arrival * plan.spread / plan.patients)
        for story in stories
    ]
    release = asyncio.to_thread(stage.release, released)
    await asyncio.gather(release, *rushing)
