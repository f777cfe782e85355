"""The lease of a site: one holder at a time, by the database's clock, and no commit without it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from his_db.engine import SourceSettings
from sync.audit import Audit
from sync.lease import SITE_LEASE, SPAN, Lease, SoleTenure
from sync.lease_keeper import PATIENCE, Keeper
from sync.store import LeaseLost, Store, StoreError, StoreUnavailable, StreamRow, Transaction, open_store
from sync.store_postgresql import WRITER
from tests.bounds import PATIENCE as BOUND
from tests.bounds import in_time, until
from tests.servers import PostgresqlServer, url_of

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
SHORT = timedelta(milliseconds=800)
LONG = timedelta(minutes=1)


def clock() -> datetime:
    return NOW


class Uptime:
    """Of one machine; ``jump`` is what a frozen process sees when it goes on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead

    def jump(self, seconds: float) -> None:
        self.ahead += seconds


@pytest.fixture
def database(postgresql_database: Callable[[], SourceSettings]) -> SourceSettings:
    return postgresql_database()


@pytest.fixture
async def stores(database: SourceSettings) -> AsyncIterator[tuple[Store, Store]]:
    opened = open_store(url_of(database), clock), open_store(url_of(database), clock)
    yield opened
    await asyncio.gather(*(store.close() for store in opened))


def lease(store: Store, holder: str, span: timedelta, uptime: Callable[[], float] = time.monotonic) -> Lease:
    return Lease(store, holder=holder, audit=Audit(store, clock, instance=holder), span=span, clock=uptime)


class Dead:
    """``Renewals`` of whoever does not renew."""

    def renew(self, name: str, term: int, span: timedelta) -> bool:
        raise StoreUnavailable("none")

    def close(self) -> None:
        """Nothing is open."""


def note(name: str) -> Callable[[Transaction], None]:
    return lambda work: work.rows.put_stream(StreamRow(name, NOW))


async def taken(which: Lease, seconds: float = BOUND) -> int:
    return await asyncio.wait_for(which.take(), seconds)


async def test_one_holder_and_its_successor(stores: tuple[Store, Store]) -> None:
    one, other = lease(stores[0], "a", LONG), lease(stores[1], "b", LONG)
    assert await taken(one) == 1
    with pytest.raises(TimeoutError):
        await taken(other, 0.3)
    assert other.seen is not None
    assert other.seen.holder == "a"
    await one.fenced().write(note("s"))
    with pytest.raises(LeaseLost):
        await other.fenced().write(note("t"))
    with pytest.raises(LeaseLost):
        await other.fenced().read(lambda work: work.rows.stream("s"))
    await one.give_back()
    assert await taken(other) == 2  # at its next look, not after a minute
    with pytest.raises(LeaseLost):
        await one.fenced().write(note("u"))
    audited = await Audit(stores[0], clock).newest(action="lease.")
    assert [row.entry.parameters for row in audited] == ['{"holder": "a", "term": 1}', '{"holder": "b", "term": 2}']


async def test_a_holder_that_renews_keeps_it_and_a_dead_one_does_not(stores: tuple[Store, Store]) -> None:
    one, other = lease(stores[0], "a", SHORT), lease(stores[1], "b", SHORT)
    await taken(one)
    holding = asyncio.create_task(one.lost())
    with pytest.raises(TimeoutError):
        await taken(other, 2 * SHORT.total_seconds())
    assert one.term == 1
    holding.cancel()  # killed
    started = time.monotonic()
    assert await taken(other) == 2
    assert in_time(time.monotonic() - started, 5)
    assert one.term is None  # by its own clock


@contextmanager
def writers_wait(server: PostgresqlServer, database: SourceSettings) -> Iterator[Callable[[], bool]]:
    """Somebody holds the writers' lock, as an agent that is frozen in a transaction does; tells whether one waits for it."""
    waits = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    with closing(server.connect(database.database)) as holder, closing(server.connect(database.database)) as looker:
        holder.execute("BEGIN")
        holder.execute(f"SELECT {WRITER}")
        yield lambda: looker.execute(waits).fetchone() == (True,)
        holder.execute("COMMIT")


async def test_a_lease_that_was_long_in_coming_counts_from_when_it_came(
    stores: tuple[Store, Store], postgresql_server: PostgresqlServer, database: SourceSettings
) -> None:
    """It was asked for, waited longer than the span for a frozen writer, and was over when it came: a term was lost."""
    uptime = Uptime()
    one = lease(stores[0], "a", LONG, uptime)
    with writers_wait(postgresql_server, database) as is_waited_for:
        taking = asyncio.create_task(one.take())
        await until(is_waited_for)
        uptime.jump(2 * LONG.total_seconds())
    assert await asyncio.wait_for(taking, BOUND) == 1
    assert one.term == 1
    await one.fenced().write(note("s"))
    await one.give_back()


async def test_renewals_wait_for_no_writer(
    stores: tuple[Store, Store], postgresql_server: PostgresqlServer, database: SourceSettings
) -> None:
    one, other = lease(stores[0], "a", SHORT), lease(stores[1], "b", SHORT)
    await taken(one)
    holding = asyncio.create_task(one.lost())
    with writers_wait(postgresql_server, database) as is_waited_for:
        writing = asyncio.create_task(one.fenced().write(note("s")))
        await until(is_waited_for)
        with pytest.raises(TimeoutError):
            await taken(other, 3 * SHORT.total_seconds())
    await writing
    assert one.term == 1
    await one.give_back()
    await holding


async def test_an_event_loop_that_is_busy_keeps_it_and_one_that_hangs_does_not(
    stores: tuple[Store, Store], caplog: pytest.LogCaptureFixture
) -> None:
    span = timedelta(seconds=3)
    one = lease(stores[0], "a", span)
    await taken(one)
    kept = one._kept
    assert kept is not None
    first, started = kept.until, time.monotonic()
    busy = 0.9 * PATIENCE * span.total_seconds()
    while time.monotonic() - started < busy:  # nothing else runs in this loop
        pass
    assert kept.until > first
    kept._thread.join(BOUND)  # nor here: until the term has run out
    assert not kept._thread.is_alive()
    # The last renewal began while the loop was not silent for longer than that.
    assert kept.until <= started + (1 + PATIENCE) * span.total_seconds()
    assert one.term is None
    told = [record.getMessage() for record in caplog.records if record.name == "his160.sync.lease"]
    assert "the event loop is silent: the lease is not renewed" in told
    assert told[-1] == "the lease is lost"


async def test_the_time_of_a_takeover_is_what_was_promised() -> None:
    """≤ 20 s: the span, a look of the other, and the longest that a frozen transaction may keep the writer's lock. An
    event loop that hangs is renewed for a while, and by the thread for no longer."""
    from sync import lease as module
    from sync.store_postgresql import SESSION

    frozen = timedelta(seconds=int(SESSION["idle_in_transaction_session_timeout"].removesuffix("s")))
    assert max(SPAN * (1 + PATIENCE), frozen) + module._LOOK * 1.1 <= timedelta(seconds=20)


async def test_a_frozen_holder_knows_when_it_goes_on(stores: tuple[Store, Store]) -> None:
    """Two ways: its own clock, before it does anything; and the database, when it had no time to look at the clock."""
    uptime = Uptime()
    one, other = lease(stores[0], "a", SHORT, uptime), lease(stores[1], "b", SHORT)
    await taken(one)
    slow = lease(stores[0], "a", SHORT, lambda: 0.0)
    slow._kept = Keeper(Dead(), SITE_LEASE, 1, LONG, until=1.0, clock=lambda: 0.0, over=lambda: None)  # its clock stood
    await taken(other)
    holding = asyncio.create_task(other.lost())
    with pytest.raises(LeaseLost, match="term 1"):
        await slow.fenced().write(note("s"))
    assert slow.term is None
    await asyncio.wait_for(slow.lost(), BOUND)
    uptime.jump(2)
    with pytest.raises(LeaseLost):
        await one.fenced().write(note("s"))
    await asyncio.wait_for(one.lost(), BOUND)
    assert await stores[1].read(lambda work: work.rows.stream("s")) is None
    assert other.term == 2
    holding.cancel()


async def test_a_unit_of_an_earlier_term_is_refused_in_a_later_one(stores: tuple[Store, Store]) -> None:
    """What was begun in one term of an agent may rest on a picture that another one has changed since."""
    one, other = lease(stores[0], "a", LONG), lease(stores[1], "b", LONG)
    await taken(one)
    old = lease(stores[0], "a", LONG)
    old._kept = Keeper(Dead(), SITE_LEASE, 1, LONG, until=60.0, clock=lambda: 0.0, over=lambda: None)
    await old.fenced().write(note("s"))
    await one.give_back()
    await taken(other)
    await other.give_back()
    assert await taken(one) == 3
    with pytest.raises(LeaseLost):
        await old.fenced().write(note("t"))
    await one.fenced().write(note("u"))


async def test_without_the_database_the_lease_runs_out(
    database: SourceSettings, postgresql_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from tests.tcp_proxy import TcpProxy

    with TcpProxy(postgresql_server.wire) as proxy:
        store = open_store(url_of(replace(database, host="127.0.0.1", port=proxy.port)), clock)
        one = lease(store, "a", SHORT)
        await taken(one)
        holding = asyncio.create_task(one.lost())
        proxy.cut()
        await asyncio.wait_for(holding, BOUND)
        assert one.term is None
        with pytest.raises((LeaseLost, StoreUnavailable)):
            await one.fenced().write(note("s"))
        taking = asyncio.create_task(one.take())
        await until(lambda: bool(one._trouble))  # it has tried in vain
        proxy.heal()
        assert await asyncio.wait_for(taking, BOUND) == 2
        await store.close()


async def test_a_database_that_does_not_answer_ends_the_term_in_time(
    database: SourceSettings, postgresql_server: PostgresqlServer
) -> None:
    """A renewal that hangs must not make the holder believe."""
    from dataclasses import replace

    from tests.tcp_proxy import TcpProxy

    with TcpProxy(postgresql_server.wire) as proxy:
        store = open_store(url_of(replace(database, host="127.0.0.1", port=proxy.port)), clock)
        one = lease(store, "a", SHORT)
        await taken(one)
        proxy.stall()
        started = time.monotonic()
        await asyncio.wait_for(one.lost(), BOUND)
        assert in_time(time.monotonic() - started, 2)
        proxy.cut()
        proxy.heal()
        await store.close()


async def test_a_clock_of_the_database_that_went_back(
    stores: tuple[Store, Store], postgresql_server: PostgresqlServer, database: SourceSettings
) -> None:
    """Then the lease of a dead agent would last for hours: more time left than anybody takes counts as none."""
    one, other = lease(stores[0], "a", SHORT), lease(stores[1], "b", SHORT)
    await taken(one)
    with closing(postgresql_server.connect(database.database)) as admin:
        admin.execute("UPDATE leases SET expires = expires + 3600 * 1000000::bigint")
    assert await taken(other) == 2


async def test_many_want_it_at_once(database: SourceSettings) -> None:
    stores = [open_store(url_of(database), clock) for _ in range(4)]
    leases = [lease(store, str(number), LONG) for number, store in enumerate(stores)]
    taking = [asyncio.create_task(each.take()) for each in leases]
    await asyncio.wait(taking, timeout=BOUND, return_when=asyncio.FIRST_COMPLETED)
    done, waiting = await asyncio.wait(taking, timeout=1)  # and nobody follows
    assert [task.result() for task in done] == [1]
    assert len([each for each in leases if each.term is not None]) == 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.gather(*(store.close() for store in stores))


async def test_the_one_agent_of_a_file_has_it_always(tmp_path: object) -> None:
    store = open_store(f"{tmp_path}/state.db", clock)
    tenure = SoleTenure(store)
    assert await tenure.take() == tenure.term == 1
    await tenure.fenced().write(note("s"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(tenure.lost(), 0.05)
    await store.close()


async def test_tables_of_leases_are_the_same_in_both(store_place: str) -> None:
    store = open_store(store_place, clock)

    async def do(unit: Callable[[Transaction], object]) -> object:
        return await store.write(unit)

    assert await do(lambda work: work.leases.get("x")) is None
    assert await do(lambda work: work.leases.take("x", "a", LONG)) == 1
    assert await do(lambda work: work.leases.take("x", "b", LONG)) is None
    assert await do(lambda work: work.leases.take("x", "a", LONG)) is None
    assert await do(lambda work: work.leases.renew("x", 1, LONG)) is True
    assert await do(lambda work: work.leases.renew("x", 2, LONG)) is False
    row = await store.read(lambda work: work.leases.get("x"))
    assert row is not None
    assert timedelta(seconds=50) < row.left <= LONG
    assert await do(lambda work: work.leases.check("x", 1)) is None
    with pytest.raises(StoreError):
        await do(lambda work: work.leases.check("x", 2))
    await do(lambda work: work.leases.give_back("x", 2))
    assert await do(lambda work: work.leases.take("x", "b", LONG)) is None
    await do(lambda work: work.leases.give_back("x", 1))
    with pytest.raises(LeaseLost):
        await do(lambda work: work.leases.check("x", 1))
    assert await do(lambda work: work.leases.take("x", "b", LONG)) == 2
    assert await do(lambda work: work.leases.take("y", "a", LONG)) == 1
    await store.close()
