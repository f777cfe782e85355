"""The relay link over real sockets with mutual TLS: agent's side and sandbox, each the other's peer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import grpc
import pytest
from google.rpc import status_pb2
from his160.sandbox.v1 import sandbox_pb2
from his160.v1 import relay_pb2

from agent.bench_pki import make_authority
from agent.errors import CallFailed, explain
from agent.handler import CallContext, Identity
from agent.link.answering import status_of
from agent.link.event_stream import RelaySink
from agent.link.relay_link import RelayLink, RelayLinks
from agent.sandbox.client import status_of as status_received
from sync.sink import Outcome, SinkUnavailable
from tests.bounds import PATIENCE, in_time, until
from tests.tcp_proxy import TcpProxy
from tests.unit.link.bench import PREFIX, SITE, Bench, StallingProxy, connected, event, first


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def failure(answers: Any) -> status_pb2.Status:
    with pytest.raises(CallFailed) as caught:
        await first(answers)
    return caught.value.status


async def test_a_call_and_its_reply(bench: Bench) -> None:
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)):
        agent = sandbox.agents.choose(SITE)
        assert await first(agent.call(f"{PREFIX}Echo", b"\x0a\x01x", caller="platform")) == b"\x0a\x01x"
        assert await first(agent.call(f"{PREFIX}Echo", b"")) == b""
        context = bench.dispatcher.contexts[0]
        assert (context.border, context.caller, str(context.identity)) == ("link", "platform", "relay/bench")
        assert context.deadline is not None
        assert agent.agent.operations == ["TestService.Echo"]


async def test_a_stream_of_answers(bench: Bench) -> None:
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)):
        answers = sandbox.agents.choose().call(f"{PREFIX}Count", b"5")
        async with aclosing(answers):
            assert [answer async for answer in answers] == [b"0", b"1", b"2", b"3", b"4"]


@asynccontextmanager
async def direct_server(bench: Bench) -> AsyncIterator[str]:
    """The same dispatcher behind a gRPC server."""

    async def handle(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        about = CallContext(Identity("relay", "bench"), "server", "1")
        try:
            answer = await bench.dispatcher.dispatch(method, request, about)
        except Exception as error:  # noqa: BLE001  # stands for the RPC border
            status = status_of(error)
            code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
            details = (("grpc-status-details-bin", status.SerializeToString()),)
            await context.abort(code, status.message, details)
        assert isinstance(answer, bytes)
        return answer

    method = ""

    class Everything(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            nonlocal method
            method = handler_call_details.method
            return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Everything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def received(channel: grpc.aio.Channel, method: str) -> status_pb2.Status:
    """The status, with details, that a direct gRPC call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(method)(b"")  # type: ignore[arg-type]  # raw bytes
    return status_received(caught.value)


@pytest.mark.parametrize("name", ["Refuse", "Defect", "Unknown"])
async def test_errors_are_those_of_direct_grpc(bench: Bench, name: str) -> None:
    async with direct_server(bench) as address, grpc.aio.insecure_channel(address) as channel:
        direct = await received(channel, PREFIX + name)
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)):
        over_link = await failure(sandbox.agents.choose().call(PREFIX + name, b""))
        async with grpc.aio.insecure_channel(sandbox.control) as control:
            through_proxy = await received(control, PREFIX + name)
    assert through_proxy == direct
    assert over_link == direct
    assert "patient" not in str(over_link)


async def test_cancel_reaches_the_handler(bench: Bench) -> None:
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)) as links:
        waiting = asyncio.ensure_future(first(sandbox.agents.choose().call(f"{PREFIX}Hang", b"")))
        async with asyncio.timeout(PATIENCE):
            await bench.dispatcher.started.wait()
            waiting.cancel()
            await bench.dispatcher.cancelled.wait()
        await until(lambda: links.links[0].calls_under_way == 0)
        assert await first(sandbox.agents.choose().call(f"{PREFIX}Echo", b"x")) == b"x"


async def test_deadlines_travel(bench: Bench) -> None:
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)):
        agent = sandbox.agents.choose()
        status = await failure(agent.call(f"{PREFIX}Hang", b"", timeout=timedelta(seconds=0.1)))
        assert explain(status).code == "DEADLINE_EXCEEDED"
        assert explain(status).reason == "DEADLINE_EXCEEDED"
        assert bench.dispatcher.cancelled.is_set()
        seen = len(bench.dispatcher.contexts)
        status = await failure(agent.call(f"{PREFIX}Echo", b"", timeout=timedelta(0)))
        assert explain(status).code == "DEADLINE_EXCEEDED"
        assert len(bench.dispatcher.contexts) == seen, "a call whose deadline has passed is not started"


async def test_small_calls_flow_beside_a_big_message(bench: Bench) -> None:
    size = 3 * 1024 * 1024
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)):
        agent = sandbox.agents.choose()
        ended: list[str] = []

        async def big() -> None:
            assert await first(agent.call(f"{PREFIX}Big", b"%d" % size)) == bytes(size)
            ended.append("big")

        async def small() -> None:
            assert await first(agent.call(f"{PREFIX}Echo", b"booking")) == b"booking"
            ended.append("small")

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(big())
            await bench.dispatcher.arrived.wait()
            for _ in range(5):
                group.create_task(small())
        assert ended == ["small"] * 5 + ["big"]


async def test_a_slow_reader_stalls_its_own_call_only(bench: Bench) -> None:
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)):
        agent = sandbox.agents.choose()
        report = agent.call(f"{PREFIX}Flood", b"")
        async with aclosing(report):
            assert len(await anext(report)) == 64 * 1024
            for _ in range(20):
                assert await first(agent.call(f"{PREFIX}Echo", b"booking")) == b"booking"
            # one message taken, one in the window, one waiting for credit
            assert bench.dispatcher.streamed <= 4
        async with asyncio.timeout(PATIENCE):
            await bench.dispatcher.cancelled.wait()


async def test_an_answer_above_the_limit_is_refused(bench: Bench) -> None:
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)):
        agent = sandbox.agents.choose()
        status = await failure(agent.call(f"{PREFIX}Big", b"%d" % (4 * 1024 * 1024 + 1)))
        assert explain(status).reason == "ANSWER_TOO_LARGE"
        assert len(await first(agent.call(f"{PREFIX}Big", b"%d" % (4 * 1024 * 1024)))) == 4 * 1024 * 1024


async def test_more_calls_than_the_agent_takes_wait_their_turn(bench: Bench) -> None:
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen, max_calls=1)):
        agent = sandbox.agents.choose()
        hanging = asyncio.ensure_future(first(agent.call(f"{PREFIX}Hang", b"")))
        async with asyncio.timeout(PATIENCE):
            await bench.dispatcher.started.wait()
            behind = [asyncio.ensure_future(first(agent.call(f"{PREFIX}Echo", b"%d" % n))) for n in range(20)]
            late = agent.call(f"{PREFIX}Echo", b"late", timeout=timedelta(milliseconds=1))
            expired = asyncio.ensure_future(failure(late))
            await until(lambda: sum(map(len, agent._places._waiting.values())) == 21)
            assert len(bench.dispatcher.contexts) == 1
            behind[3].cancel()  # gives its turn up
            bench.dispatcher.release.set()
            assert await hanging == b"released"
            answers = await asyncio.gather(*behind[:3], *behind[4:])
            assert answers == [b"%d" % n for n in range(20) if n != 3]
            assert explain(await expired).reason == "DEADLINE_EXCEEDED"


async def test_a_restarted_relay_is_dialled_again(bench: Bench) -> None:
    async with bench.sandbox() as sandbox:
        address = sandbox.listen
        link = bench.link(address)
        running = bench.links(link)
        await running.__aenter__()
    await until(lambda: not link.state.connected)
    await until(lambda: link.state.last_fault == "unreachable")
    again = connected(link)
    async with bench.sandbox(listen=address) as sandbox:
        async with asyncio.timeout(PATIENCE):
            await again.wait()
        assert await first(sandbox.agents.choose().call(f"{PREFIX}Echo", b"x")) == b"x"
        assert link.state.losses == 1
        assert link.state.connected_since is not None
        await running.__aexit__(None, None, None)


async def test_a_stopping_relay_lets_calls_end(bench: Bench) -> None:
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)):
        agent = sandbox.agents.choose()
        waiting = asyncio.ensure_future(first(agent.call(f"{PREFIX}Hang", b"")))
        async with asyncio.timeout(PATIENCE):
            await bench.dispatcher.started.wait()
            agent.goodbye("update", reconnect=True)
            await until(lambda: len(sandbox.agents.all()) == 1 and not agent.takes_calls)
            assert explain(await failure(agent.call(f"{PREFIX}Echo", b""))).reason == "SITE_NOT_ATTACHED"
            bench.dispatcher.release.set()
            assert await waiting == b"released"
            # reconnect: a new session of the same link
            await until(lambda: any(other is not agent for other in sandbox.agents.all()))


async def test_a_stopping_agent_finishes_its_calls(bench: Bench) -> None:
    link_calls: asyncio.Future[bytes]
    async with bench.sandbox() as sandbox:
        async with bench.links(bench.link(sandbox.listen)) as links:
            agent = sandbox.agents.choose()
            link_calls = asyncio.ensure_future(first(agent.call(f"{PREFIX}Hang", b"")))
            async with asyncio.timeout(PATIENCE):
                await bench.dispatcher.started.wait()
            links.stop()
            await until(lambda: not agent.takes_calls)
            bench.dispatcher.release.set()
        assert await link_calls == b"released"
        await until(lambda: not sandbox.agents.all())


async def test_a_half_open_link_is_seen_by_both_sides(bench: Bench) -> None:
    short = timedelta(seconds=0.6)
    async with bench.sandbox(dead_after=short) as sandbox, StallingProxy(sandbox.listen) as proxy:
        link = bench.link(proxy.address, dead_after=short, greet_within=timedelta(seconds=0.5))
        async with bench.links(link):
            proxy.stall()
            began = time.monotonic()
            await until(lambda: not link.state.connected)
            await until(lambda: not sandbox.agents.all())
            assert in_time(time.monotonic() - began, 5)
            assert link.state.losses == 1
            again = connected(link)
            proxy.heal()
            async with asyncio.timeout(PATIENCE):
                await again.wait()
            assert await first(sandbox.agents.choose().call(f"{PREFIX}Echo", b"x")) == b"x"


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_link_that_is_dead_one_way_is_seen_by_both_sides(
    bench: Bench, direction: Literal["up", "down"]
) -> None:
    """A firewall that drops what goes one way: who still hears something must learn of it too."""
    short = timedelta(seconds=0.6)
    async with bench.sandbox(dead_after=short) as sandbox:
        host, _, port = sandbox.listen.rpartition(":")
        with TcpProxy((host, int(port))) as proxy:
            link = bench.link(f"127.0.0.1:{proxy.port}", dead_after=short, greet_within=timedelta(seconds=0.5))
            async with bench.links(link):
                proxy.stall(direction)
                await until(lambda: link.state.losses == 1 and not sandbox.agents.all())
                again = connected(link)
                proxy.heal()
                async with asyncio.timeout(PATIENCE):
                    await again.wait()
                assert await first(sandbox.agents.choose().call(f"{PREFIX}Echo", b"x")) == b"x"


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_bytes_that_are_damaged_on_the_way_end_the_link_and_nothing_else(
    bench: Bench, direction: Literal["up", "down"]
) -> None:
    """TLS finds one turned bit; the call under way is an unknown outcome, and the link is dialled again."""
    async with bench.sandbox() as sandbox:
        host, _, port = sandbox.listen.rpartition(":")
        with TcpProxy((host, int(port))) as proxy:
            link = bench.link(f"127.0.0.1:{proxy.port}")
            async with bench.links(link):
                proxy.corrupt(direction)
                status = await failure(sandbox.agents.choose().call(f"{PREFIX}Echo", b"x"))
                assert explain(status).code == "UNAVAILABLE"
                again = connected(link)
                proxy.heal()
                async with asyncio.timeout(PATIENCE):
                    await again.wait()
                assert await first(sandbox.agents.choose().call(f"{PREFIX}Echo", b"x")) == b"x"
                assert link.state.losses >= 1


async def test_a_name_that_nobody_knows_is_told_and_dialled_again(bench: Bench) -> None:
    """DNS that fails: the link says what it could not do, and goes on trying."""
    link = bench.link("his160-relay.invalid:50150")
    async with bench.links(link, wait=False):
        await until(lambda: bool(link.state.last_detail))
        assert not link.state.connected
        assert "his160-relay.invalid" in link.state.last_detail or "resol" in link.state.last_detail.lower()


async def test_a_call_cut_off_is_not_a_failure(bench: Bench) -> None:
    async with bench.sandbox() as sandbox:
        async with bench.links(bench.link(sandbox.listen)):
            waiting = asyncio.ensure_future(failure(sandbox.agents.choose().call(f"{PREFIX}Hang", b"")))
            async with asyncio.timeout(PATIENCE):
                await bench.dispatcher.started.wait()
                sandbox.faults.set(_cut())
                status = await waiting
        assert (explain(status).code, explain(status).reason) == ("UNAVAILABLE", "OUTCOME_UNKNOWN")


@pytest.mark.parametrize(("agent", "relay", "used"), [(1, 1, 1), (2, 1, 1), (1, 7, 1), (3, 2, 2)])
async def test_revisions_negotiate_down(bench: Bench, agent: int, relay: int, used: int) -> None:
    async with bench.sandbox(revision=relay) as sandbox:
        link = bench.link(sandbox.listen, revision=agent)
        async with bench.links(link):
            assert link.state.revision == used
            assert sandbox.agents.choose().revision == used
            assert await first(sandbox.agents.choose().call(f"{PREFIX}Echo", b"x")) == b"x"


async def test_a_revision_that_is_too_old_is_refused(bench: Bench) -> None:
    async with bench.sandbox(revision=0) as sandbox:
        link = bench.link(sandbox.listen)
        async with bench.links(link, wait=False):
            await until(lambda: link.state.failures >= 2)
            assert not link.state.connected


async def refused(bench: Bench, link: RelayLink, fault: str) -> None:
    async with bench.links(link, wait=False):
        # gRPC may report one refused stream as an internal error of its own; the next dial tells.
        await until(lambda: link.state.failures >= 2 and link.state.last_fault == fault)
        assert not link.state.connected


async def test_a_certificate_of_another_site_is_refused(bench: Bench) -> None:
    pair = bench.authority.issue("other", Identity("site", "999999999"))
    async with bench.sandbox() as sandbox:
        await refused(bench, bench.link(sandbox.listen, pair=pair), "refused")
        assert not sandbox.agents.all()


async def test_a_certificate_that_is_no_sites_is_refused(bench: Bench) -> None:
    async with bench.sandbox() as sandbox:
        await refused(bench, bench.link(sandbox.listen, pair=bench.relay), "refused")


async def test_a_certificate_of_another_authority_is_refused(bench: Bench, tmp_path: Path) -> None:
    pair = make_authority(tmp_path / "foreign").issue("agent", Identity("site", SITE))
    async with bench.sandbox() as sandbox:
        await refused(bench, bench.link(sandbox.listen, pair=pair), "unreachable")


async def test_a_relay_of_another_authority_is_not_trusted(bench: Bench, tmp_path: Path) -> None:
    foreign = make_authority(tmp_path / "foreign")
    pair = foreign.issue("relay", Identity("relay", "bench"))
    async with bench.sandbox(certificate=pair.certificate, key=pair.key) as sandbox:
        await refused(bench, bench.link(sandbox.listen), "unreachable")


async def test_the_relays_name_is_checked_and_may_be_overridden(bench: Bench) -> None:
    async with bench.sandbox() as sandbox:
        await refused(bench, bench.link(sandbox.listen, authority="relay.example.com"), "unreachable")
        async with bench.links(bench.link(sandbox.listen, authority="localhost")):
            assert await first(sandbox.agents.choose().call(f"{PREFIX}Echo", b"x")) == b"x"


async def test_certificates_are_read_at_every_dial(bench: Bench) -> None:
    pair = bench.agent
    content = pair.certificate.read_bytes()
    pair.certificate.unlink()
    async with bench.sandbox() as sandbox:
        link = bench.link(sandbox.listen)
        async with bench.links(link, wait=False):
            await until(lambda: link.state.last_fault == "credentials")
            up = connected(link)
            pair.certificate.write_bytes(content)
            async with asyncio.timeout(PATIENCE):
                await up.wait()


async def test_two_links_at_once(bench: Bench) -> None:
    async with bench.sandbox() as one, bench.sandbox(store=bench.settings.store.with_suffix(".two")) as two:
        links = [bench.link(one.listen), bench.link(two.listen), bench.link(one.listen, instance="a2")]
        async with bench.links(*links) as together:
            assert len(together.connected()) == 3
            assert await first(two.agents.choose().call(f"{PREFIX}Echo", b"x")) == b"x"
            # the connections of one site take turns
            turns = [one.agents.choose(SITE) for _ in range(4)]
            assert turns[0] is turns[2]
            assert turns[1] is turns[3]
            assert turns[0] is not turns[1]
            for agent in turns:
                assert await first(agent.call(f"{PREFIX}Echo", b"y")) == b"y"


def _cut() -> sandbox_pb2.SetFaultRequest:
    return sandbox_pb2.SetFaultRequest(cut=True)


async def test_a_cut_refuses_until_healed(bench: Bench) -> None:
    async with bench.sandbox() as sandbox:
        link = bench.link(sandbox.listen)
        async with bench.links(link):
            sandbox.faults.set(_cut())
            await until(lambda: link.state.failures >= 3)
            assert not sandbox.agents.all()
            up = connected(link)
            sandbox.faults.set(sandbox_pb2.SetFaultRequest())
            async with asyncio.timeout(PATIENCE):
                await up.wait()


async def test_frames_that_are_no_frames_are_passed_over(bench: Bench) -> None:
    """A relay that sends garbage bytes on the stream; calls after it are answered all the same."""
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def attach(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.read()
        hello = relay_pb2.LinkSettings(revision=1)
        await context.write(relay_pb2.AttachResponse(settings=hello).SerializeToString())
        await context.write(b"\xff\xff\xff no frame")
        call = relay_pb2.LinkCall(call_id=1, method=f"{PREFIX}Echo", payload=b"\xff no message")
        await context.write(relay_pb2.AttachResponse(call=call).SerializeToString())
        while isinstance(content := await context.read(), bytes):
            frame = relay_pb2.AttachRequest.FromString(content)
            if frame.WhichOneof("frame") == "reply" and not answered.done():
                answered.set_result(frame.reply.payload)

    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Attach": grpc.stream_stream_rpc_method_handler(attach)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("his160.v1.RelayService", handlers),))
    credentials = grpc.ssl_server_credentials([(bench.relay.key.read_bytes(), bench.relay.certificate.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    link = bench.link(f"127.0.0.1:{port}")
    async with bench.links(link), asyncio.timeout(PATIENCE):
        assert await answered == b"\xff no message"
        assert link.state.losses == 0
    await server.stop(None)


@asynccontextmanager
async def sink_over(links: RelayLinks, seconds: float = 5) -> AsyncIterator[RelaySink]:
    sink = RelaySink(links, receipt_timeout=timedelta(seconds=seconds))
    try:
        yield sink
    finally:
        await sink.close()


async def test_events_are_stored_once_however_often_they_come(bench: Bench) -> None:
    async with (
        bench.sandbox() as sandbox,
        bench.links(bench.link(sandbox.listen)) as links,
        sink_over(links) as sink,
    ):
        receipts = await sink.deliver([event(1), event(2), event(1)])
        assert [(receipt.event_id, receipt.outcome) for receipt in receipts] == [
            (event(number).event_id, Outcome.STORED) for number in (1, 2, 1)
        ]
        both = await asyncio.gather(sink.deliver([event(2), event(3)]), sink.deliver([event(3), event(4)]))
        assert all(receipt.outcome is Outcome.STORED for receipts in both for receipt in receipts)
        assert await sink.deliver([]) == []
        stored = sandbox.journal.after(0, 10)
        assert [(entry.position, entry.event.sequence, entry.arrivals) for entry in stored] == [
            (1, 1, 2),
            (2, 2, 2),
            (3, 3, 2),
            (4, 4, 1),
        ]


async def test_events_that_cannot_be_taken(bench: Bench) -> None:
    async with (
        bench.sandbox() as sandbox,
        bench.links(bench.link(sandbox.listen)) as links,
        sink_over(links) as sink,
    ):
        sandbox.faults.set(sandbox_pb2.SetFaultRequest(retry_events=1))
        receipts = await sink.deliver([event(1, site="999"), event(2), event(3)])
        assert [receipt.outcome for receipt in receipts] == [Outcome.REJECTED, Outcome.RETRY, Outcome.STORED]
        assert receipts[0].detail
        assert receipts[1].retry_after == timedelta(seconds=1)
        assert [entry.event.sequence for entry in sandbox.journal.after(0, 10)] == [3]


async def test_no_receipt_means_sending_again(bench: Bench) -> None:
    async with (
        bench.sandbox() as sandbox,
        bench.links(bench.link(sandbox.listen)) as links,
        sink_over(links, seconds=0.2) as sink,
    ):
        sandbox.faults.set(sandbox_pb2.SetFaultRequest(drop_receipts=1))
        with pytest.raises(SinkUnavailable):
            await sink.deliver([event(1)])
        (receipt,) = await sink.deliver([event(1)])
        assert receipt.outcome is Outcome.STORED
        assert sandbox.journal.after(0, 10)[0].arrivals == 2


async def test_a_cut_wakes_delivery_when_the_link_is_back(bench: Bench) -> None:
    async with bench.sandbox() as sandbox:
        link = bench.link(sandbox.listen)
        async with bench.links(link) as links, sink_over(links) as sink:
            back = asyncio.Event()
            sink.on_connected(back.set)
            hold = sandbox_pb2.SetFaultRequest()
            hold.ack_delay.FromTimedelta(timedelta(seconds=30))
            sandbox.faults.set(hold)
            waiting = asyncio.ensure_future(sink.deliver([event(1), event(2)]))
            await until(lambda: len(sandbox.journal) == 2)
            sandbox.faults.set(_cut())
            with pytest.raises(SinkUnavailable):
                async with asyncio.timeout(PATIENCE):
                    await waiting
            await until(lambda: not link.state.connected)
            with pytest.raises(SinkUnavailable, match="no link"):
                await sink.deliver([event(1)])
            sandbox.faults.set(sandbox_pb2.SetFaultRequest())
            async with asyncio.timeout(PATIENCE):
                await back.wait()
            receipts = await sink.deliver([event(1), event(2), event(3)])
            assert {receipt.outcome for receipt in receipts} == {Outcome.STORED}
            assert [entry.arrivals for entry in sandbox.journal.after(0, 10)] == [2, 2, 1]


async def test_events_take_the_link_that_is_up(bench: Bench) -> None:
    async with bench.sandbox() as one, bench.sandbox(store=bench.settings.store.with_suffix(".two")) as two:
        links = bench.links(bench.link(one.listen), bench.link(two.listen))
        async with links as together, sink_over(together) as sink:
            await sink.deliver([event(1)])
            one.faults.set(_cut())
            await until(lambda: len(together.connected()) == 1)
            await sink.deliver([event(2)])
            assert [entry.event.sequence for entry in two.journal.after(0, 10)] == [2]


def test_the_client_reads_a_bare_status() -> None:
    assert status_received(grpc.RpcError()).code == grpc.StatusCode.UNKNOWN.value[0]
