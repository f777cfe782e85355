"""The link through a proxy of the hospital, and through ``his160 forward`` on a front machine: real sockets, mTLS end to end."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from agent.link.relay_link import RelayLink
from agent.tcp_forwarder import TcpForwarder, direct
from his_db.proxy import ProxySettings, parse_proxy
from tests.bounds import PATIENCE, until
from tests.proxies import PASSWORD, USER, proxy
from tests.unit.link.bench import PREFIX, Bench, connected, first


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def by(bench: Bench, address: str, settings: ProxySettings, authority: str = "localhost") -> RelayLink:
    return bench.link(address, authority=authority, proxy=settings)


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_calls_come_through_a_proxy_that_wants_a_password(bench: Bench, kind: str) -> None:
    async with bench.sandbox() as sandbox, proxy(kind) as way:
        settings = parse_proxy(way.url, USER, PASSWORD)
        async with bench.links(by(bench, sandbox.listen, settings)):
            assert await first(sandbox.agents.choose().call(f"{PREFIX}Echo", b"x")) == b"x"
        host, _, port = sandbox.listen.rpartition(":")
        assert way.asked == [(host, int(port))]


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_a_refusal_of_the_proxy_is_told_in_its_words_without_the_password(bench: Bench, kind: str) -> None:
    async with bench.sandbox() as sandbox, proxy(kind) as way:
        link = by(bench, sandbox.listen, parse_proxy(way.url, USER, "wrong-secret"))
        async with bench.links(link, wait=False):
            await until(lambda: "refused" in link.state.last_detail)
        assert f"127.0.0.1:{way.port}" in link.state.last_detail
        assert "wrong-secret" not in link.state.last_detail
        assert not sandbox.agents.all()


async def test_a_password_that_the_protocol_cannot_carry_is_told(bench: Bench) -> None:
    async with bench.sandbox() as sandbox, proxy("socks5") as way:
        link = by(bench, sandbox.listen, parse_proxy(way.url, USER, "长坂坡"))
        async with bench.links(link, wait=False):
            await until(lambda: "not ASCII" in link.state.last_detail)


async def test_a_proxy_that_is_away_comes_back_and_so_does_the_link(bench: Bench) -> None:
    async with bench.sandbox() as sandbox:
        async with proxy("socks5") as way:
            port = way.port
        link = by(bench, sandbox.listen, parse_proxy(f"socks5://127.0.0.1:{port}", USER, PASSWORD))
        async with bench.links(link, wait=False):
            await until(lambda: "cannot be reached" in link.state.last_detail)
            up = connected(link)
            async with proxy("socks5", port), asyncio.timeout(PATIENCE):
                await up.wait()
                assert await first(sandbox.agents.choose().call(f"{PREFIX}Echo", b"x")) == b"x"


async def test_the_relays_name_is_checked_through_a_proxy_too(bench: Bench) -> None:
    async with bench.sandbox() as sandbox, proxy("socks5") as way:
        link = by(bench, sandbox.listen, parse_proxy(way.url, USER, PASSWORD), authority="relay.example.com")
        async with bench.links(link, wait=False):
            await until(lambda: link.state.failures > 0)
        assert not sandbox.agents.all()


@pytest.mark.parametrize(
    "url",
    ["", "10.1.1.1:3128", "ftp://h:1", "http://h", "http://h:0", "socks5://h:65536", "http://u:p@h:1", "http://h:1/x"],
)
def test_what_is_no_proxy_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="socks5://host:port"):
        parse_proxy(url)


def test_a_proxy_shows_no_password() -> None:
    assert "secret" not in repr(parse_proxy("socks5://[::1]:1080", "u", "secret"))
    assert parse_proxy("http://[::1]:80/").host == "::1"


async def test_the_front_machine_forwards_and_stops_in_order(bench: Bench) -> None:
    async with bench.sandbox() as sandbox:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-m", "agent", "forward", "--listen", "127.0.0.1:0", "--to", sandbox.listen,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode()
        port = int(line.split("forwarding port ")[1].split()[0])
        async with bench.links(bench.link(f"127.0.0.1:{port}", authority="localhost")):
            assert await first(sandbox.agents.choose().call(f"{PREFIX}Echo", b"x" * 100_000)) == b"x" * 100_000
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0


async def test_a_forwarder_is_bounded_and_closes_what_it_holds() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1024):
            writer.write(chunk)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    way = TcpForwarder(
        "127.0.0.1", 0, direct("127.0.0.1", server.sockets[0].getsockname()[1], timedelta(seconds=5)), most=1
    )
    await way.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", way.port)
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"ping"
    extra_reader, extra_writer = await asyncio.open_connection("127.0.0.1", way.port)
    assert await extra_reader.read() == b""  # one too many
    extra_writer.close()
    writer.write_eof()  # half closed: the answer still comes
    assert await reader.read() == b""
    await until(lambda: way.connections == 0)
    await way.stop()
    server.close()
    writer.close()
