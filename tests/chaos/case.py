"""One case: a command, the point where its agent dies, what the callers do afterwards; and the books at the end."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sync.audit import Audit
from sync.clock import utc_now
from sync.store import CommandRow, CommandState, Transaction, open_store
from tests.chaos.books import Books, Said
from tests.chaos.house_scenes import ACTS, HOUSE_REQUESTS
from tests.chaos.invariants import Finding, Kind, judge
from tests.chaos.process import AgentProcess, Answer, Died
from tests.chaos.scenes import Customer, Scene
from tests.chaos.site import SETTLE, ChaosSite
from tests.chaos.trap import Point

RETRY: Final = "retry"
SILENCE: Final = "silence"
TWIN: Final = "other caller"
NEXT: Final = "next command"
MODES: Final = (RETRY, SILENCE, TWIN, NEXT)
"""What happens after the restart: the same request again; nothing; another request for the same command, then the same;
what the patient may want next, then the same."""

_PATIENCE: Final = 12  # calls until a caller gives up
_SWEEP: Final = 40.0  # seconds between two looks of the agent at what is open


@dataclass(frozen=True, slots=True)
class Kill:
    """A plan. ``recovery`` and ``again``: number of the point of a second death, while it starts again or while the command
    is repeated; 0: none. ``delay``: seconds into a statement, in the phase ``during``."""

    scene: Scene
    point: Point
    mode: str = RETRY
    delay: float = 0.0
    recovery: int = 0
    again: int = 0

    def __str__(self) -> str:
        more = f", again at {self.recovery} of its start" if self.recovery else ""
        more += f", again at {self.again} of the repetition" if self.again else ""
        return f"{self.scene.name}: dies at {self.point}{more}; then {self.mode}"


@dataclass(slots=True)
class Outcome:
    """What a case showed. ``reached``: whether the second death, where one was planned, happened."""

    kills: int = 0
    reached: bool = True
    findings: list[Finding] = field(default_factory=list)
    unknown: int = 0
    """Commands left for a person at the end."""


class Case:
    """One case on a site. ``play`` it once. ``at_last``: done to the HIS right before its books are read."""

    def __init__(self, site: ChaosSite, order_no: str, kill: Kill, at_last: Callable[[], None] | None = None) -> None:
        self._site = site
        self._kill = kill
        self._at_last = at_last
        self._who = Customer(order_no, site.place(), HOUSE_REQUESTS if site.houses is not None else {})
        self._folder = site.case_folder()
        self._told: list[Said] = []
        self._ahead = 0.0
        self._given_up: list[str] = []
        self.outcome = Outcome()

    def play(self) -> Outcome:
        """Die, start again, go on, and judge the books. The folder stays when something was found."""
        kill, scene = self._kill, self._kill.scene
        self._begin()
        agent = self._site.start(self._folder)
        self._prepare(agent)
        agent.arm(kill.point.number, kill.delay)
        self._ask(agent, scene.step)
        self._see_dead(agent)
        self.outcome.kills += 1
        if kill.mode == SILENCE:
            self._site.wait_alone()
        agent = self._restarted()
        agent = getattr(self, f"_{kill.mode.replace(' ', '_')}")(agent)
        agent = self._asked_once_more(agent)
        agent.kill()
        if self._at_last is not None:
            self._at_last()
        self._judge()
        if not self.outcome.findings:
            shutil.rmtree(self._folder, ignore_errors=True)
        return self.outcome

    def dry_run(self) -> list[Point]:
        """The points of the command, undisturbed."""
        self._begin()
        agent = self._site.start(self._folder)
        try:
            self._prepare(agent)
            agent.arm(0)
            answer = self._ask(agent, self._kill.scene.step)
            assert answer is not None
            assert answer.is_final, answer
            assert answer.is_done != self._kill.scene.refused, answer
            return agent.points()
        finally:
            agent.kill()

    def _see_dead(self, agent: AgentProcess) -> None:
        """A run may have a point less than the dry one (a sign-in that still holds): then it dies behind its answer."""
        try:
            agent.points()
        except Died:
            agent.wait_dead()
        else:
            agent.kill()

    def _begin(self) -> None:
        if self._site.houses is not None:
            self._site.houses.forget_numbers()

    def _prepare(self, agent: AgentProcess) -> None:
        """What comes before. A caller obeys RetryInfo here as well: on a loaded machine a statement may take too long."""
        scene = self._kill.scene
        for step in scene.prepare:
            if step.startswith("@"):
                ACTS[step](self._site, self._who)
                continue
            for _ in range(_PATIENCE):
                answer = self._ask(agent, step)
                if answer is None or answer.is_final:
                    break
                self._wait(agent, answer.retry_after.total_seconds() if answer.retry_after else 1.0)
            assert answer is not None, scene
            assert answer.is_done, f"{scene.name}: {answer}"

    def _restarted(self) -> AgentProcess:
        if self._kill.recovery:
            try:
                agent = self._site.start(self._folder, ahead=self._ahead, arm=self._kill.recovery)
            except Died:
                self.outcome.kills += 1
            else:
                self.outcome.reached = False
                return agent
        return self._site.start(self._folder, ahead=self._ahead)

    def _retry(self, agent: AgentProcess) -> AgentProcess:
        if self._kill.again:
            agent.arm(self._kill.again)
        agent = self._insist(agent, self._kill.scene.step)
        self.outcome.reached = not self._kill.again or self.outcome.kills > 1
        return agent

    def _silence(self, agent: AgentProcess) -> AgentProcess:
        """Nobody asks: the sweep alone finds out, once the HIS can no longer be at work on it."""
        self._wait(agent, SETTLE)
        looked_at, _ = agent.sweep()
        for _ in range(_PATIENCE):  # a saga goes step by step, and what needs the caller waits for him for a while
            if not looked_at:
                break
            self._wait(agent, _SWEEP)
            looked_at, _ = agent.sweep()
        return agent

    def _other_caller(self, agent: AgentProcess) -> AgentProcess:
        agent = self._insist(agent, self._kill.scene.step, "-b")
        return self._insist(agent, self._kill.scene.step)

    def _next_command(self, agent: AgentProcess) -> AgentProcess:
        agent = self._insist(agent, self._kill.scene.next, "-n")
        return self._insist(agent, self._kill.scene.step)

    def _asked_once_more(self, agent: AgentProcess) -> AgentProcess:
        """Every request that was answered gets that answer again, also from an agent that was killed since."""
        answered = [said.request_id for said in self._told if said.answer is not None and said.answer.is_final]
        if self._kill.mode == SILENCE:
            return agent
        self._ask(agent, self._kill.scene.step)
        agent.kill()
        agent = self._site.start(self._folder, ahead=self._ahead)
        again = "-b" if self._kill.mode == TWIN else ""
        for attempt in dict.fromkeys(("", again)):
            if f"{self._who.order_no}-{self._kill.scene.step}{attempt}" in answered:
                self._ask(agent, self._kill.scene.step, attempt)
        return agent

    def _insist(self, agent: AgentProcess, step: str, attempt: str = "") -> AgentProcess:
        """Ask as a caller does who obeys RetryInfo, until there is a final answer. The agent may die once more."""
        for _ in range(_PATIENCE):
            answer = self._ask(agent, step, attempt)
            if answer is None:
                agent.wait_dead()
                self.outcome.kills += 1
                agent = self._site.start(self._folder, ahead=self._ahead)
                continue
            if self._kill.again:
                agent = self._survivor(agent)
            if answer.is_final:
                return agent
            if self._site.houses is not None:  # meanwhile the agent looks at what is open by itself
                self._wait(agent, _SWEEP)
                with suppress(Died):
                    agent.sweep()
            else:
                self._wait(agent, answer.retry_after.total_seconds() if answer.retry_after else 1.0)
        self._given_up.append(f"{self._who.order_no}-{step}{attempt}")
        return agent

    def _survivor(self, agent: AgentProcess) -> AgentProcess:
        """An agent that is not about to die: it may be, right after it has answered."""
        try:
            agent.ahead(self._ahead)
            return agent
        except Died:
            agent.wait_dead()
            self.outcome.kills += 1
            return self._site.start(self._folder, ahead=self._ahead)

    def _wait(self, agent: AgentProcess, seconds: float) -> None:
        self._ahead += seconds
        if self._site.houses is not None:
            self._site.houses.ahead = self._ahead
        agent.ahead(self._ahead)

    def _ask(self, agent: AgentProcess, step: str, attempt: str = "") -> Answer | None:
        operation, request = self._who.request(step, attempt)
        answer: Answer | None = None
        with suppress(Died):
            answer = agent.call(operation, request)
        if answer is not None and answer.is_done:
            self._who.remember(step, answer.message)
        request_id = getattr(request, "request_id", "")
        self._told.append(Said(operation, request_id, self._who.order_no, self._who.number(step), answer))
        return answer

    def _judge(self) -> None:
        documents = [self._who.document_no] if self._kill.scene.step == "patient" else []
        his = self._site.reader.read([self._who.order_no], documents, self._who.place.schedule_id)
        ledger, audit_break = read_store(self._folder)
        houses = {}
        if self._site.houses is not None:
            houses[self._who.order_no] = self._site.houses.book((self._who.out_trade_no,), self._who.order_no)
        self.outcome.findings += judge(Books(his, ledger, self._told, self._site.before, audit_break, houses))
        for request_id in self._given_up:
            self.outcome.findings.append(Finding(Kind.LOST, "answered", f"{request_id} never got an answer"))
        self.outcome.unknown = sum(row.state is CommandState.UNKNOWN for row in ledger)


def read_store(folder: Path) -> tuple[Sequence[CommandRow], str]:
    """Every row of the ledger on disk, and where the audit's chain is broken. The agent is dead."""

    def unit(transaction: Transaction) -> list[CommandRow]:
        return [row for state in CommandState for row in transaction.commands.listed(state, 100_000)]

    async def read() -> tuple[Sequence[CommandRow], str]:
        store = open_store(folder / "state" / "his160.db", utc_now, exclusive=False)
        try:
            verification = await Audit(store, utc_now).verify()
            return await store.read(unit), str(verification.broken or "")
        finally:
            await store.close()

    return asyncio.run(read())
