"""Two agents on one store: an order belongs to one of them at a time, and a command runs once, whichever is asked."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from his160.v1 import reason_pb2

from his_db.engine import SourceSettings
from his_db.errors import HisRefused, HisUnavailable, OutcomeUnknown
from sync.command import CommandExecutor
from sync.key_lock import KeysHeld
from sync.ledger import Send
from sync.store import CommandState, Store, open_store
from tests.bounds import PATIENCE
from tests.servers import PostgresqlServer, url_of
from tests.unit.sync.bench import Clock, MemoryHis, book, cancel, lock

ROOT = Path(__file__).resolve().parents[2]
BOOK = "AppointmentService.BookAppointment"
LOCK = "AppointmentService.LockSlot"
CANCEL = "AppointmentService.CancelAppointment"
NOW = timedelta(0)
SETTLE = timedelta(seconds=15)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def his() -> MemoryHis:
    return MemoryHis()


@pytest.fixture
def database(postgresql_database: Callable[[], SourceSettings]) -> SourceSettings:
    return postgresql_database()


@pytest.fixture
async def stores(database: SourceSettings, clock: Clock) -> AsyncIterator[tuple[Store, Store]]:
    opened = open_store(url_of(database), clock), open_store(url_of(database), clock)
    yield opened
    await asyncio.gather(*(store.close() for store in opened))


@pytest.fixture
def agents(stores: tuple[Store, Store], his: MemoryHis, clock: Clock) -> tuple[CommandExecutor, CommandExecutor]:
    one, other = (
        CommandExecutor(
            his,
            store,
            clock=clock,
            settle=SETTLE,
            monotonic=lambda: clock.now.timestamp(),
            locks=store.locks(),
        )
        for store in stores
    )
    return one, other


def end_sessions(server: PostgresqlServer, database: SourceSettings, statement: str) -> None:
    """As when the network of an agent goes, or the server is restarted."""
    with closing(server.connect(database.database)) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE %s",
            (statement,),
        )


async def test_a_key_belongs_to_one_agent(stores: tuple[Store, Store]) -> None:
    one, other = (store.locks() for store in stores)
    async with one.hold(["order:T1", "n:1"]):
        for keys in (["order:T1"], ["n:1", "n:2"]):
            with pytest.raises(KeysHeld):
                async with other.hold(keys, patience=NOW):
                    pass
        async with other.hold(["n:2", "order:T2"], patience=NOW):  # nothing of a failed try is kept
            assert await one.confirm()
            assert await other.confirm()
        waiting = asyncio.create_task(_enter(other, ["order:T1"]))
        await asyncio.sleep(0.05)  # time in which it would have had the key
        assert not waiting.done()
    await asyncio.wait_for(waiting, PATIENCE)


async def _enter(locks: object, keys: list[str]) -> None:
    async with locks.hold(keys):  # type: ignore[attr-defined]
        return


async def test_holders_exclude_each_other(stores: tuple[Store, Store]) -> None:
    inside: dict[str, int] = {"a": 0, "b": 0, "c": 0}

    async def work(store: Store, number: int) -> None:
        keys = [list(inside)[number % 3], list(inside)[(number + 1) % 3]]
        async with store.locks().hold(keys, patience=timedelta(seconds=60)):
            for key in keys:
                inside[key] += 1
            await asyncio.sleep(0.001)
            assert all(inside[key] == 1 for key in keys)
            for key in keys:
                inside[key] -= 1

    await asyncio.gather(*(work(store, number) for number in range(30) for store in stores))


async def test_a_lost_session_is_noticed(
    stores: tuple[Store, Store], postgresql_server: PostgresqlServer, database: SourceSettings
) -> None:
    one, other = (store.locks() for store in stores)
    async with one.hold(["order:T1"]):
        assert await one.confirm()
        stores[0]._session._heard = 0.0  # type: ignore[attr-defined]  # as after a while
        end_sessions(postgresql_server, database, "%advisory%")
        async with other.hold(["order:T1"], patience=timedelta(seconds=5)):
            assert not await one.confirm()
    async with one.hold(["order:T1"], patience=timedelta(seconds=5)):
        assert await one.confirm()


async def test_one_request_at_both_agents_has_one_effect(
    agents: tuple[CommandExecutor, CommandExecutor], his: MemoryHis
) -> None:
    answers = await asyncio.gather(*(agent.execute(BOOK, book()) for agent in agents for _ in range(3)))
    assert all(answer == answers[0] for answer in answers)
    assert his.effects[BOOK, "T1"] == 1
    assert his.writes == [BOOK]


async def test_commands_of_one_order_take_turns(
    agents: tuple[CommandExecutor, CommandExecutor], his: MemoryHis
) -> None:
    running = most = 0
    write = his.write

    async def watched(*arguments: object, **options: object) -> object:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        try:
            return await write(*arguments, **options)  # type: ignore[arg-type]
        finally:
            running -= 1

    his.write = watched  # type: ignore[assignment, method-assign]
    requests = [(LOCK, lock(request_id=f"l{n}")) for n in range(4)] + [(BOOK, book()), (CANCEL, cancel())]
    results = await asyncio.gather(
        *(agents[n % 2].execute(*request) for n, request in enumerate(requests)), return_exceptions=True
    )
    assert not [error for error in results if isinstance(error, Exception) and not isinstance(error, HisRefused)]
    assert most == 1


async def test_an_agent_that_hangs_keeps_its_order(
    agents: tuple[CommandExecutor, CommandExecutor], stores: tuple[Store, Store], his: MemoryHis
) -> None:
    """Frozen in the middle of a command: the other says that it is not known, and does not touch the order."""
    stores[1].locks()._patience = timedelta(milliseconds=100)  # type: ignore[attr-defined]
    his.gate = asyncio.Event()
    hanging = asyncio.create_task(agents[0].execute(BOOK, book()))
    while not his.writes:
        await asyncio.sleep(0.005)
    with pytest.raises(OutcomeUnknown):
        await agents[1].execute(BOOK, book())
    with pytest.raises(HisRefused) as caught:
        await agents[1].execute(CANCEL, cancel())
    assert caught.value.reason == reason_pb2.REASON_ORDER_BUSY
    assert await agents[1].sweep() == (await agents[1].sweep())  # looks at nothing of the other's
    row = await agents[1].ledger.get("r1")
    assert row is not None
    assert row.state is CommandState.SENT
    his.gate.set()
    answer = await hanging
    assert await agents[1].execute(BOOK, book()) == answer
    assert his.effects[BOOK, "T1"] == 1


@pytest.mark.parametrize("did_it", [True, False])
async def test_a_command_of_an_agent_that_is_gone(
    agents: tuple[CommandExecutor, CommandExecutor],
    stores: tuple[Store, Store],
    his: MemoryHis,
    clock: Clock,
    did_it: bool,
) -> None:
    """SENT, and nobody has its lock: not known since now, probed, and repeated only when the HIS has surely ended."""
    from sync.commands import COMMANDS

    request = book()
    command = COMMANDS[BOOK]
    admission = await agents[0].ledger.admit(command, request, "r1", command.payload_hash(request))
    assert isinstance(admission, Send)
    if did_it:
        await his.write(BOOK, request, key="k")
    clock.advance(seconds=60)  # however long ago it was sent: until when it ran is not known
    if did_it:
        assert (await agents[1].execute(BOOK, request)).appointment.order_no == "T1"  # type: ignore[attr-defined]
    else:
        with pytest.raises(OutcomeUnknown):
            await agents[1].execute(BOOK, request)
        row = await agents[1].ledger.get("r1")
        assert row is not None
        assert row.state is CommandState.UNKNOWN
        assert row.finished_time == clock.now
        clock.advance(seconds=16)
        assert (await agents[1].execute(BOOK, request)).appointment.order_no == "T1"  # type: ignore[attr-defined]
    assert his.effects[BOOK, "T1"] == 1


async def test_an_answer_is_given_while_another_agent_has_the_order(
    agents: tuple[CommandExecutor, CommandExecutor], stores: tuple[Store, Store], his: MemoryHis
) -> None:
    stores[1].locks()._patience = timedelta(milliseconds=100)  # type: ignore[attr-defined]
    answer = await agents[0].execute(BOOK, book())
    async with stores[0].locks().hold(["order:T1"]):
        assert await agents[1].execute(BOOK, book()) == answer
        with pytest.raises(HisRefused) as caught:
            await agents[1].execute(BOOK, book(slot="S2"))  # the same request_id, another request
        assert caught.value.reason == reason_pb2.REASON_ORDER_BUSY
    with pytest.raises(HisRefused) as caught:
        await agents[1].execute(BOOK, book(slot="S2"))
    assert caught.value.reason == reason_pb2.REASON_REQUEST_ID_REUSED


async def test_an_agent_that_starts_leaves_the_others_commands_alone(
    agents: tuple[CommandExecutor, CommandExecutor], his: MemoryHis
) -> None:
    his.gate = asyncio.Event()
    running = asyncio.create_task(agents[0].execute(BOOK, book()))
    while not his.writes:
        await asyncio.sleep(0.005)
    assert (await agents[1].recover()).looked_at == 0
    row = await agents[1].ledger.get("r1")
    assert row is not None
    assert row.state is CommandState.SENT
    his.gate.set()
    await running
    assert (await agents[0].ledger.get("r1")).state is CommandState.DONE  # type: ignore[union-attr]


async def test_a_lock_that_was_lost_before_the_write(
    agents: tuple[CommandExecutor, CommandExecutor],
    stores: tuple[Store, Store],
    his: MemoryHis,
    postgresql_server: PostgresqlServer,
    database: SourceSettings,
) -> None:
    """Admitted, then frozen for so long that the session was ended: nothing is sent, and the command can be repeated."""
    session = stores[0]._session  # type: ignore[attr-defined]
    admit = agents[0].ledger.admit

    async def frozen(*arguments: object, **options: object) -> object:
        admission = await admit(*arguments, **options)  # type: ignore[arg-type]
        end_sessions(postgresql_server, database, "%advisory%")
        session._heard = 0.0
        return admission

    agents[0].ledger.admit = frozen  # type: ignore[assignment, method-assign]
    with pytest.raises(HisUnavailable, match="lock of the order"):
        await agents[0].execute(BOOK, book())
    assert his.writes == []
    await agents[1].execute(BOOK, book())
    assert his.effects[BOOK, "T1"] == 1


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_locks_of_a_process(stores: tuple[Store, Store], database: SourceSettings, how: signal.Signals) -> None:
    """A stopped process keeps its locks, a killed one has none."""
    program = """
import asyncio, sys
sys.path[:0] = sys.argv[2:]
from sync.store import open_store
from sync.clock import utc_now
async def main():
    async with open_store(sys.argv[1], utc_now).locks().hold(["order:T1"]):
        print("held", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    places = [str(ROOT), str(ROOT / "proto" / "gen")]
    command = [sys.executable, "-c", program, url_of(database), *places]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "held\n"
            process.send_signal(how)
            locks = stores[0].locks()
            if how is signal.SIGSTOP:
                with pytest.raises(KeysHeld):
                    await _hold(locks, timedelta(seconds=0.5))
            else:
                await _hold(locks, timedelta(seconds=10))
        finally:
            process.kill()


async def _hold(locks: object, patience: timedelta) -> None:
    async with locks.hold(["order:T1"], patience=patience):  # type: ignore[attr-defined]
        return
