"""A gateway through a proxy of the hospital: every byte goes through it, and what it refuses was not done."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from his160.site.v1 import merchant_pb2 as m

from his_db.access import HisAccess
from his_db.engine import SourceSettings
from his_db.engines.http import HttpEngine
from his_db.errors import HisUnavailable, OutcomeUnknown
from his_db.http_exchange import HttpFault, HttpRequest
from his_db.simulator import FaultKind
from his_db.source import LaneSettings, Source
from tests.conformance.test_http import certificate
from tests.proxies import PASSWORD, USER, Proxy, proxy
from tests.simulated import ZONE, Bench, StillClock

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=ZONE)
OPEN, QUERY = "MerchantService.OpenTrade", "MerchantService.QueryTrade"
TRADE: dict[str, Any] = {
    "request_id": "r1",
    "out_trade_no": "W160A1",
    "order_no": "A1",
    "amount_fen": 2500,
    "payer_openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
}
KINDS = pytest.mark.parametrize("kind", ["http", "socks5"])


@pytest.fixture
async def bench(tmp_path: Path, wechat_keys: Path) -> AsyncIterator[Bench]:
    found = Bench("wechat", "wechat", tmp_path, wechat_keys, StillClock(NOW))
    yield found
    await found.close()


async def by(bench: Bench, folder: Path, way: Proxy, credentials: str = f"{USER}:{PASSWORD}", **more: str) -> None:
    """The bench's gateway, from now on through the proxy."""
    await bench.source.close(timedelta(seconds=1))
    file = folder / "proxy.txt"
    file.write_text(credentials + "\n", encoding="utf-8")
    options = {"proxy": way.url, "proxy_credentials": f"@file:{file}", **more}
    settings = replace(bench.source.settings, options=options)
    one = LaneSettings(workers=1, queue_limit=20)
    bench.source = Source(settings, {"read": one, "write": one})
    bench.access = HisAccess({"wechat": bench.source}, bench.generation, clock=bench.clock)


@KINDS
async def test_signed_exchanges_go_through(bench: Bench, tmp_path: Path, kind: str) -> None:
    async with proxy(kind) as way:
        await by(bench, tmp_path, way)
        opened = await bench.ask(OPEN, m.OpenTradeResponse, **TRADE)
        assert opened.pay_parameters
        found = await bench.ask(QUERY, m.QueryTradeResponse, out_trade_no="W160A1")
        assert found.trade.out_trade_no == "W160A1"
        assert set(way.asked) == {("127.0.0.1", bench.server.port)}
        (entry,) = bench.asked("open")
        assert entry["headers"]["host"] == f"127.0.0.1:{bench.server.port}"  # the signature is over the path alone
        assert not any("proxy" in name for name in entry["headers"])


@KINDS
async def test_a_refusal_of_the_proxy_means_that_nothing_was_sent(bench: Bench, tmp_path: Path, kind: str) -> None:
    async with proxy(kind) as way:
        await by(bench, tmp_path, way, credentials=f"{USER}:wrong-secret")
        with pytest.raises(HisUnavailable) as caught:
            await bench.ask(OPEN, m.OpenTradeResponse, **TRADE)
        assert "proxy" in str(caught.value)
        assert "wrong-secret" not in str(caught.value)
        assert bench.server.requests == []


async def test_credentials_are_read_at_each_connection(bench: Bench, tmp_path: Path) -> None:
    async with proxy("http") as way:
        await by(bench, tmp_path, way, credentials=f"{USER}:old")
        (tmp_path / "proxy.txt").write_text(f"{USER}:{PASSWORD}", encoding="utf-8")
        await bench.ask(OPEN, m.OpenTradeResponse, **TRADE)


@KINDS
async def test_tls_is_with_the_payment_house_and_not_with_the_proxy(tmp_path: Path, kind: str) -> None:
    ours, foreign = certificate(tmp_path, "ours"), certificate(tmp_path, "foreign")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server, proxy(kind) as way:
        port = server.sockets[0].getsockname()[1]
        (tmp_path / "proxy.txt").write_text(f"{USER}:{PASSWORD}", encoding="utf-8")
        options = {"proxy": way.url, "proxy_credentials": f"@file:{tmp_path / 'proxy.txt'}"}
        url = f"https://127.0.0.1:{port}"

        def ask(ca: Path) -> int:
            engine = HttpEngine(SourceSettings("pay", "http", url, options={**options, "ca_file": str(ca)}))
            try:
                session = engine.open(read_only=True)
                status = session.exchange(HttpRequest("POST", "/x", body=b"{}")).status
                session.close()
                return status
            finally:
                engine.dispose()

        assert await asyncio.to_thread(ask, ours) == 200
        with pytest.raises(HttpFault, match=r"self.signed|unable to get"):
            await asyncio.to_thread(ask, foreign)
        assert way.asked == [("127.0.0.1", port)] * 2


async def test_a_proxy_that_is_away_means_that_nothing_was_sent(bench: Bench, tmp_path: Path) -> None:
    async with proxy("http") as way:
        pass
    await by(bench, tmp_path, way)
    with pytest.raises(HisUnavailable):
        await bench.ask(OPEN, m.OpenTradeResponse, **TRADE)
    assert bench.server.requests == []


async def test_credentials_that_cannot_be_read_send_nothing(bench: Bench, tmp_path: Path) -> None:
    async with proxy("http") as way:
        await by(bench, tmp_path, way, proxy_credentials="@env:NO_SUCH_VARIABLE_OF_A_PROXY")
        with pytest.raises(HisUnavailable):
            await bench.ask(OPEN, m.OpenTradeResponse, **TRADE)
        assert (way.asked, bench.server.requests) == ([], [])


async def test_a_lost_answer_behind_a_proxy_is_an_unknown_outcome(bench: Bench, tmp_path: Path) -> None:
    async with proxy("http") as way:
        await by(bench, tmp_path, way)
        bench.fault(FaultKind.DROP_AFTER, "open")
        with pytest.raises(OutcomeUnknown):
            await bench.ask(OPEN, m.OpenTradeResponse, **TRADE)
        assert len(bench.asked("open")) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"proxy": "10.1.1.1:3128"},
        {"proxy": "http://user:p4ss@10.1.1.1:3128"},
        {"proxy": "http://10.1.1.1:3128", "proxy_credentials": "user:p4ss"},
        {"proxy_credentials": "@env:PROXY"},
    ],
)
async def test_a_proxy_that_is_written_wrong(bench: Bench, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="proxy") as caught:
        HttpEngine(replace(bench.source.settings, options=options))
    assert "p4ss" not in str(caught.value)
