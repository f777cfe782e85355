"""Opt-in: what becomes of calls when the wire to a SQL Server or an Oracle breaks, through a proxy that we cut.

As part 4 of `tests/conformance/test_engines.py`, whose ways to end a session on the server are those of PostgreSQL and
MariaDB; `HIS160_TEST_LIVE=postgresql,mysql` runs this file on these two as well.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from his_db.engine import Engine, Fault, Session
from his_db.errors import HisBusy, HisUnavailable, OutcomeUnknown
from tests.engine_beds import SLOW, Bed, bed_of, fault_of
from tests.tcp_proxy import TcpProxy

ENGINES = ["mssql", "oracle", *filter(None, os.environ.get("HIS160_TEST_LIVE", "").split(","))]
PORTS = {"mssql": 1433, "oracle": 1521, "postgresql": 5432, "mysql": 3306}
BOTH = "UPDATE slot SET taken = 1"


@dataclass(frozen=True, slots=True)
class Wire:
    """A bed whose engines connect through `proxy`; `look` goes around it."""

    bed: Bed
    proxy: TcpProxy

    @property
    def one(self) -> str:
        return self.bed.one

    def taken(self) -> int:
        """How many slots are taken."""
        return int(self.bed.look("SELECT sum(taken) FROM slot")[0][0])

    def slow(self) -> str:
        return SLOW[self.bed.settings.engine]


@pytest.fixture(params=ENGINES)
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    bed = bed_of(request.param, request)
    at = bed.settings
    with ExitStack() as stack:
        upstream: Any = (at.host, at.port or PORTS[at.engine])
        if at.host.startswith("/"):
            upstream = f"{at.host}/.s.PGSQL.{at.port or 5432}"
        proxy = stack.enter_context(TcpProxy(upstream))
        yield Wire(Bed(replace(at, host="127.0.0.1", port=proxy.port), bed.look), proxy)


class AtCommit:
    """A session that loses the answer to its COMMIT: the server gets it, then the wire is cut."""

    def __init__(self, session: Session, proxy: TcpProxy) -> None:
        self._session = session
        self._proxy = proxy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def commit(self) -> None:
        self._proxy.stall("down")
        cut = threading.Timer(0.5, self._proxy.cut)
        cut.start()
        try:
            self._session.commit()
        finally:
            cut.join()
            self._proxy.heal()


def losing_commits(engine: Engine, proxy: TcpProxy) -> Any:
    """The engine; sessions that it opens from now on are `AtCommit`."""
    plain: Any = engine.open
    given: Any = engine
    given.open = lambda **options: AtCommit(plain(**options), proxy)
    return given


async def test_idle_connection_lost_is_not_noticed(wire: Wire) -> None:
    async with wire.bed.lane() as reads, wire.bed.lane(read_only=False) as writes:
        for _ in range(2):
            assert (await reads.run(lambda s: s.run(wire.one, {}, max_rows=1))).rows[0][0] == 1
            await writes.transact(lambda s: s.run(BOTH, {}, max_rows=1))
            wire.proxy.cut()
            wire.proxy.heal()
        assert reads.stats().faults == writes.stats().faults == {"lost": 1}


async def test_lost_in_mid_statement(wire: Wire) -> None:
    def work(session: Session) -> None:
        session.run(BOTH, {}, max_rows=1)
        cut = threading.Timer(0.2, wire.proxy.cut)
        cut.start()
        try:
            session.run(wire.slow(), {}, max_rows=1)
        finally:
            cut.join()

    engine = wire.bed.engine(statement_timeout=timedelta(seconds=2))
    async with wire.bed.lane(engine, read_only=False) as lane:
        for inside, error in ((False, HisUnavailable), (True, OutcomeUnknown)):
            with pytest.raises(error):
                await lane.transact(work, may_commit_inside=inside)
            assert lane.stats().open_sessions == 0
            wire.proxy.heal()
            # Both rows are free again once the server has noticed, each in its own time; until then they are locked.
            for _ in range(30):
                try:
                    found = await lane.transact(lambda s: s.run(f"{BOTH} WHERE taken = 0", {}, max_rows=1))
                    break
                except HisBusy:
                    continue
            assert found.changed == 2
            await lane.transact(lambda s: s.run("UPDATE slot SET taken = 0", {}, max_rows=1))


async def test_cut_at_commit_is_unknown(wire: Wire) -> None:
    """Only the HIS knows; the agent must ask, not guess."""
    engine = losing_commits(wire.bed.engine(), wire.proxy)
    async with wire.bed.lane(engine, read_only=False) as lane:
        with pytest.raises(OutcomeUnknown):
            await lane.transact(lambda s: s.run(BOTH, {}, max_rows=1))
        assert wire.taken() in (0, 2)
        assert (await lane.run(lambda s: s.run(wire.one, {}, max_rows=1))).rows[0][0] == 1


def test_a_silent_server_is_broken_off(wire: Wire) -> None:
    """A firewall that drops silently: a time-out of our own ends the call, and the session with it."""
    engine: Any = wire.bed.engine(statement_timeout=timedelta(seconds=1))
    with closing(engine.open(read_only=True)) as session:
        session.run(wire.one, {}, max_rows=1)
        wire.proxy.stall("down")
        faults: list[Fault] = []

        def call() -> None:
            faults.append(fault_of(engine, lambda: session.run(wire.one, {}, max_rows=1)))

        thread = threading.Thread(target=call)
        thread.start()
        guard = getattr(engine, "guard", None)
        if guard is not None:
            guard.clock = lambda: float("inf")  # as if its patience were over
            while not guard.check() and thread.is_alive():
                thread.join(0.01)
        thread.join(30)
        assert faults in ([Fault.LOST], [Fault.TIMEOUT])
        assert not session.alive()
        wire.proxy.heal()
    engine.dispose()
