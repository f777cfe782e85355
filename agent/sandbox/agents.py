"""The agents that are attached now, by site."""

from __future__ import annotations

from his160.v1 import reason_pb2

from agent.errors import CallFailed, CallRefused, to_status
from agent.sandbox.attached import AttachedAgent


class AnotherStore(Exception):
    """An agent with another state store is attached to the site. The text is for the one that is refused."""


class Agents:
    """Attached agents in the order of attaching. Calls to one site go round its connections."""

    def __init__(self) -> None:
        self._agents: list[AttachedAgent] = []
        self._turns: dict[str, int] = {}

    def admit(self, agent: AttachedAgent) -> None:
        """The agent is attached, unless that would give its site a second ledger: raises AnotherStore.

        A command of a caller and its repetition must meet the same ledger. One that is silent keeps its place until its
        heartbeat ends: it may only be slow, and with two ledgers in turn a command would be done twice.
        """
        rival = next((each for each in self._agents if _are_rivals(each, agent)), None)
        if rival is not None:
            raise AnotherStore(_why(rival, agent))
        self._agents.append(agent)

    def remove(self, agent: AttachedAgent) -> None:
        """The agent is gone."""
        if agent in self._agents:
            self._agents.remove(agent)

    def all(self) -> list[AttachedAgent]:
        """All of them."""
        return list(self._agents)

    def choose(self, site: str = "") -> AttachedAgent:
        """The next agent of ``site``; empty: of the site that attached first.

        After a half-open link the site is attached twice for a while; the silent connection is passed over.
        Raises CallFailed (SITE_NOT_ATTACHED).
        """
        ready = [agent for agent in self._agents if agent.takes_calls]
        if not site and ready:
            site = ready[0].agent.site
        ready = [agent for agent in ready if agent.agent.site == site]
        if not ready:
            raise CallFailed(to_status(CallRefused(reason_pb2.REASON_SITE_NOT_ATTACHED)))
        ready = [agent for agent in ready if not agent.in_doubt] or ready
        turn = self._turns[site] = self._turns.get(site, -1) + 1
        return ready[turn % len(ready)]


def _are_rivals(one: AttachedAgent, other: AttachedAgent) -> bool:
    """Whether they keep two ledgers of one site. An agent of before 2026-12 does not say which it keeps."""
    first, second = one.agent, other.agent
    if first.site != second.site or not first.store or not second.store:
        return False
    is_copy = bool(first.process and second.process) and first.process != second.process
    return first.store != second.store or is_copy


def _why(rival: AttachedAgent, refused: AttachedAgent) -> str:
    other = f'instance "{rival.agent.instance}" of site {rival.agent.site} is attached'
    if rival.agent.store == refused.agent.store:
        return f"ANOTHER_STORE: {other}, with the same store in another process: one of the two works on a copy"
    return f"ANOTHER_STORE: {other}, with another store: a site has one ledger"
