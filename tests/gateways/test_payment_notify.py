"""Call-backs over real HTTP: on disk before they are answered, once for each fact, and no more than a wake-up call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from his160.site.v1 import merchant_pb2 as m
from starlette.concurrency import run_in_threadpool

from agent.figures import Figures
from agent.http_place import HttpPlace
from agent.payment_notify import PaymentNotify
from his_db.errors import HisUnavailable
from his_db.simulated.http_post import post
from sync.payment_notices import PaymentNotices
from sync.store import Store, open_store
from tests.bounds import PATIENCE, until
from tests.gateways.test_mobile_payment import UPLOAD
from tests.gateways.test_mobile_payment import ask as ask_centre
from tests.gateways.test_wechatpay import BACK, NOW, OPEN, REFUND, TRADE
from tests.simulated import Bench, StillClock

NUMBER = TRADE["out_trade_no"]


class Agent:
    """The part of an agent that is called back, over a bench; `asked` is what it has asked for."""

    def __init__(self, bench: Bench, store: Store) -> None:
        self.store = store
        self.figures = Figures()
        self.asked: list[str] = []
        self.woken = asyncio.Event()
        self.error: Exception | None = None
        notices = PaymentNotices(store, bench.clock, self._wake)
        opened = bench.generation.gateway
        self.notify = PaymentNotify(HttpPlace("127.0.0.1", 0), opened, notices, bench.clock, self.figures)

    async def _wake(self, number: str) -> None:
        self.asked.append(number)
        self.woken.set()
        if self.error is not None:
            raise self.error

    def url(self, gateway: str) -> str:
        return f"http://127.0.0.1:{self.notify.port}/notify/{gateway}"

    async def rows(self) -> list[tuple[str, str, str, int]]:
        """All rows, whether they have woken something or not."""
        from sqlalchemy import select

        from sync.store_schema import PAYMENT_NOTICES as T

        def unit(work: Any) -> list[tuple[str, str, str, int]]:
            found = work.payment_notices._connection.execute(select(T.c.gateway, T.c.event, T.c.number, T.c.times))
            return [tuple(row) for row in found]

        return await self.store.read(unit)

    async def waiting(self) -> list[str]:
        rows = await self.store.read(lambda work: work.payment_notices.waiting(9))
        return [row.number for row in rows]


@asynccontextmanager
async def agent(bench: Bench, folder: Path) -> AsyncIterator[Agent]:
    """It runs until the block ends: then it is stopped as a process is."""
    store = open_store(folder / "state.db", bench.clock)
    made = Agent(bench, store)
    await made.notify.start()
    running = asyncio.create_task(made.notify.run())
    try:
        yield made
    finally:
        await made.notify.stop(timedelta(seconds=1))
        async with asyncio.timeout(PATIENCE):
            await running
        await store.close()


@pytest.fixture
async def bench(tmp_path: Path, wechat_keys: Path) -> AsyncIterator[Bench]:
    found = Bench("wechat", "wechat", tmp_path, wechat_keys, StillClock(NOW), patience=timedelta(seconds=1))
    await found.ask(OPEN, m.OpenTradeResponse, **TRADE)
    found.act("pay", out_trade_no=NUMBER)
    yield found
    await found.close()


async def told(bench: Bench, to: str, **values: Any) -> int:
    """The simulated payment house calls back; the status it got."""
    answer = await run_in_threadpool(lambda: bench.act("notify", to=to, **values))
    return int(answer["status"])


async def woken(agent: Agent) -> None:
    async with asyncio.timeout(PATIENCE):
        await agent.woken.wait()
        while await agent.waiting():
            await asyncio.sleep(0.01)


async def test_the_same_fact_is_kept_and_asked_for_once(bench: Bench, tmp_path: Path) -> None:
    async with agent(bench, tmp_path) as made:
        url = made.url("wechatpay")
        assert await told(bench, url, out_trade_no=NUMBER) == 200
        await woken(made)
        assert await told(bench, url, out_trade_no=NUMBER) == 200  # again, under another id
        assert await made.rows() == [("wechatpay", "TRANSACTION.SUCCESS", NUMBER, 2)]
        await bench.ask(REFUND, m.RefundTradeResponse, **BACK)
        assert await told(bench, url, out_refund_no="R1") == 200
        await until(lambda: len(made.asked) >= 2)
        assert made.asked == [NUMBER, "R1"]
        assert made.figures.value("payment_notices") == 3


async def test_what_is_not_verified_leaves_no_trace(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with agent(bench, tmp_path) as made:
        url = made.url("wechatpay")
        assert await told(bench, url, out_trade_no=NUMBER, probe=True) == 400
        for path, body, status in (
            ("wechatpay", b'{"event_type":"TRANSACTION.SUCCESS","number":"secret-7"}', 400),
            ("wechatpay", b"\xff", 400),
            ("wechatpay", b"x" * 65537, 413),
            ("unionpay", b"{}", 404),
            ("insurance2", b"{}", 404),
        ):
            answer = await run_in_threadpool(post, made.url(path), {"Content-Type": "application/json"}, body)
            assert answer["status"] == status, path
        assert await made.rows() == []
        assert made.figures.value("payment_notices_refused") == 3
    assert "secret-7" not in caplog.text


async def test_what_cannot_be_kept_is_not_accepted(bench: Bench, tmp_path: Path) -> None:
    async with agent(bench, tmp_path) as made:
        await made.store.close()
        assert await told(bench, made.url("wechatpay"), out_trade_no=NUMBER) == 503
        assert made.asked == []


async def test_what_was_kept_before_a_crash_is_asked_for_after_it(bench: Bench, tmp_path: Path) -> None:
    store = open_store(tmp_path / "state.db", bench.clock)
    before = Agent(bench, store)
    await before.notify.start()  # and its process dies before `run` comes to it
    assert await told(bench, before.url("wechatpay"), out_trade_no=NUMBER) == 200
    await before.notify.stop(timedelta(seconds=1))
    await store.close()
    async with agent(bench, tmp_path) as made:
        await woken(made)
        assert made.asked == [NUMBER]


async def test_a_house_that_cannot_be_asked_now_is_the_sweeps_business(bench: Bench, tmp_path: Path) -> None:
    async with agent(bench, tmp_path) as made:
        made.error = HisUnavailable("down")
        assert await told(bench, made.url("wechatpay"), out_trade_no=NUMBER) == 200
        await woken(made)
        assert made.asked == [NUMBER]


async def test_the_centre_calls_back(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    bench = Bench("mobile", "mobile", tmp_path, keys, StillClock(NOW), patience=timedelta(seconds=4))
    try:
        order = await ask_centre(bench, "UploadOrder", **UPLOAD)
        async with agent(bench, tmp_path) as made:
            assert await told(bench, made.url("mobile_payment"), payOrdId=order.pay_order_id) == 200
            await woken(made)
            assert made.asked == [order.pay_order_id]
            answer = await run_in_threadpool(post, made.url("mobile_payment"), {}, b'{"payOrdId":"1"}')
            assert answer["status"] == 400
    finally:
        await bench.close()
