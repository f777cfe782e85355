"""The agents that are attached now, by site."""

from __future__ import annotations

from his160.v1 import reason_pb2

from agent.errors import CallFailed, CallRefused, to_status
from agent.sandbox.attached import AttachedAgent


class Agents:
    """Attached agents in the order of attaching. Calls to one site go round its connections."""

    def __init__(self) -> None:
        self._agents: list[AttachedAgent] = []
        self._turns: dict[str, int] = {}

    def add(self, agent: AttachedAgent) -> None:
        """The agent is attached."""
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
