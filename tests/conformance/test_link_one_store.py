"""A site has one ledger: agents of two stores, or of a store and its copy, are not let in beside each other.

A command that was sent to one of them and repeated to the other would be done twice. Case 27 of docs/reliability.md.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from agent.link.relay_link import RelayLink
from agent.sandbox.server import Sandbox
from tests.bounds import PATIENCE, until
from tests.unit.link.bench import PREFIX, Bench, StallingProxy, connected, first

SHORT = timedelta(seconds=3)  # of silence, until a link is dead; the newcomer asks several times meanwhile


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def attached(sandbox: Sandbox) -> set[str]:
    """The instances that calls go to, each of which answers one."""
    instances = {agent.agent.instance for agent in sandbox.agents.all()}
    for _ in instances:
        assert await first(sandbox.agents.choose().call(f"{PREFIX}Echo", b"x")) == b"x"
    return instances


async def refused(link: RelayLink) -> str:
    """What the relay said; gRPC may report one refused stream as an internal error of its own, the next dial tells."""
    await until(lambda: link.state.failures >= 2 and link.state.last_fault == "refused")
    assert not link.state.connected
    return link.state.last_detail


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ({"store": "s1", "process": "p1"}, {"store": "s2", "process": "p2"}, "with another store: a site has one"),
        ({"store": "s1"}, {"store": "s2"}, "with another store: a site has one"),
        ({"store": "s1"}, {"store": "s2", "process": "p2"}, "with another store: a site has one"),
        ({"store": "s1", "process": "p1"}, {"store": "s1", "process": "p2"}, "one of the two works on a copy"),
    ],
    ids=["two files", "two databases", "a database and a file", "a file and its copy"],
)
async def test_a_second_ledger_waits_until_the_first_is_gone(
    bench: Bench, one: dict[str, str], other: dict[str, str], told: str
) -> None:
    async with bench.sandbox() as sandbox:
        newcomer = bench.link(sandbox.listen, instance="new", **other)
        up = connected(newcomer)
        async with bench.links(bench.link(sandbox.listen, instance="old", **one)):
            joining = asyncio.ensure_future(newcomer.run())
            said = await refused(newcomer)
            assert 'ANOTHER_STORE: instance "old"' in said
            assert told in said
            assert await attached(sandbox) == {"old"}
        async with asyncio.timeout(PATIENCE):
            await up.wait()
        assert await attached(sandbox) == {"new"}
        newcomer.stop()
        async with asyncio.timeout(PATIENCE):
            await joining


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"store": "s1"}, {"store": "s1"}),
        ({"store": "s1", "process": "p1"}, {"store": "s1", "process": "p1"}),
        ({}, {"store": "s1", "process": "p1"}),
        ({}, {}),
    ],
    ids=["two agents of a database", "two links of an agent", "an agent that does not say", "two that do not say"],
)
async def test_who_shares_a_ledger_is_let_in(bench: Bench, one: dict[str, str], other: dict[str, str]) -> None:
    async with (
        bench.sandbox() as sandbox,
        bench.links(bench.link(sandbox.listen, instance="a", **one), bench.link(sandbox.listen, instance="b", **other)),
    ):
        assert await attached(sandbox) == {"a", "b"}


async def test_an_agent_that_is_cut_off_keeps_its_place_until_it_is_dead(bench: Bench) -> None:
    """It may only be slow. Then a machine that was set up in its place is let in, and it is not when it comes back."""
    async with bench.sandbox(dead_after=SHORT) as sandbox, StallingProxy(sandbox.listen) as proxy:
        old = bench.link(proxy.address, instance="old", store="s1", process="p1", dead_after=SHORT)
        async with bench.links(old):
            proxy.stall()
            new = bench.link(sandbox.listen, instance="new", store="s2", process="p2")
            up = connected(new)
            async with bench.links(new, wait=False):
                await until(lambda: new.state.last_fault == "refused")
                async with asyncio.timeout(PATIENCE):
                    await up.wait()
                assert await attached(sandbox) == {"new"}
                proxy.heal()
                assert 'ANOTHER_STORE: instance "new"' in await refused(old)
                assert old.state.losses == 1
                assert await attached(sandbox) == {"new"}
