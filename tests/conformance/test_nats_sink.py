"""The sink ``nats`` against a real server with JetStream."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import pytest
from his160.v1 import event_pb2
from nats.errors import NoServersError
from nats.js.api import StorageType, StreamConfig

from sync.clock import utc_now
from sync.delivery import Delivery
from sync.nats_settings import NatsSettings
from sync.outbox import Outbox
from sync.sink import Outcome, SinkUnavailable
from sync.sinks.nats import NatsSink, token
from sync.store import EventState, open_store
from tests.bounds import PATIENCE
from tests.servers import nats_url, unavailable
from tests.tcp_proxy import TcpProxy


@pytest.fixture
async def settings() -> AsyncIterator[NatsSettings]:
    """A stream of its own on the real server, deleted afterwards."""
    url = nats_url()
    try:
        client = await nats.connect(url, connect_timeout=2, allow_reconnect=False)
    except (NoServersError, OSError, TimeoutError) as error:
        unavailable("nats", f"{url} does not answer: {error}")
    name = f"his160_test_{secrets.token_hex(6)}"
    try:
        yield NatsSettings((url,), stream=name, prefix=f"{name}.events")
    finally:
        streams = client.jetstream()
        if name in {info.config.name for info in await streams.streams_info()}:
            await streams.delete_stream(name)
        await client.close()


@asynccontextmanager
async def stream_of(settings: NatsSettings) -> AsyncIterator[nats.js.JetStreamContext]:
    client = await nats.connect(settings.servers[0])
    try:
        yield client.jetstream()
    finally:
        await client.close()


def event(number: int, order: str = "T1", note: str = "") -> event_pb2.Event:
    found = event_pb2.Event(
        event_id=f"{number:032x}",
        site="440305001",
        sequence=number,
        kind=event_pb2.EVENT_KIND_CANCELLED,
        origin=event_pb2.ORIGIN_ON_SITE,
        order_no=order,
    )
    found.captured_time.FromDatetime(datetime(2026, 11, 28, tzinfo=UTC))
    found.appointment_after.note = note
    return found


async def test_each_event_is_stored_once_in_order_however_often_it_is_sent(settings: NatsSettings) -> None:
    sink = NatsSink(settings)
    events = [event(number, f"T{number}") for number in range(1, 51)]
    assert {receipt.outcome for receipt in await sink.deliver(events)} == {Outcome.STORED}
    again = await sink.deliver(events)
    assert [receipt.event_id for receipt in again] == [item.event_id for item in events]
    await sink.close()
    async with stream_of(settings) as streams:
        info = await streams.stream_info(settings.stream)
        assert info.state.messages == 50
        message = await streams.get_msg(settings.stream, seq=1)
        assert message.data is not None
        first = event_pb2.Event.FromString(message.data)
        assert message.subject == f"{settings.prefix}.440305001.CANCELLED"
        assert (message.headers or {})["Nats-Msg-Id"] == first.event_id


async def test_a_stream_that_forgets_is_refused_and_one_that_is_full_loses_nothing(settings: NatsSettings) -> None:
    async with stream_of(settings) as streams:
        await streams.add_stream(
            StreamConfig(name=settings.stream, subjects=[f"{settings.prefix}.>"], storage=StorageType.MEMORY)
        )
        with pytest.raises(SinkUnavailable, match="memory"):
            await NatsSink(settings).deliver([event(1)])
        await streams.delete_stream(settings.stream)
        with pytest.raises(SinkUnavailable, match="create = true"):
            await NatsSink(NatsSettings(settings.servers, settings.stream, create=False)).deliver([event(1)])
        sink = NatsSink(settings)
        await sink.deliver([event(1)])
        config = (await streams.stream_info(settings.stream)).config
        config.max_msgs = 1
        await streams.update_stream(config)
        with pytest.raises(SinkUnavailable, match="maximum messages"):
            await sink.deliver([event(2)])
        config.max_msgs = 10
        await streams.update_stream(config)
        assert (await sink.deliver([event(2)]))[0].outcome is Outcome.STORED
        await sink.close()


async def test_an_event_too_large_for_the_server_is_parked_alone(settings: NatsSettings) -> None:
    sink = NatsSink(settings)
    large, small = event(1, "T1", note="x" * 2_000_000), event(2, "T2")
    receipts = {receipt.event_id: receipt for receipt in await sink.deliver([large, small])}
    assert receipts[large.event_id].outcome is Outcome.REJECTED
    assert receipts[small.event_id].outcome is Outcome.STORED
    await sink.close()


async def test_a_cut_connection_is_made_anew_and_loses_and_doubles_nothing(
    settings: NatsSettings, tmp_path: Path
) -> None:
    host, _, port = settings.servers[0].removeprefix("nats://").rpartition(":")
    proxy = TcpProxy((host, int(port)))
    cut = NatsSettings((f"nats://127.0.0.1:{proxy.port}",), settings.stream, settings.prefix)
    store = open_store(tmp_path / "state.db", utc_now)
    try:
        outbox, sink = Outbox(store, utc_now), NatsSink(cut, receipt=timedelta(seconds=2))
        delivery = Delivery(outbox, sink, clock=utc_now)
        await outbox.append([event(number, f"T{number % 7}") for number in range(1, 101)])
        assert await delivery.deliver_once()
        proxy.cut_at(b"HPUB")  # the server has them, we never hear of it
        with pytest.raises(SinkUnavailable):
            await delivery.deliver_once()
        assert proxy.tripped.is_set()
        proxy.cut()
        with pytest.raises(SinkUnavailable):
            await delivery.deliver_once()
        proxy.heal()
        for _ in range(100):  # one event of each order at a time
            if not await delivery.deliver_once():
                break
        await sink.close()
        counts = await outbox.counts()
        assert (counts.acked, counts.pending, counts.dead) == (100, 0, 0)
        assert not await outbox.list(EventState.DEAD)
    finally:
        await store.close()
        proxy.close()
    async with stream_of(settings) as streams:
        kept: dict[str, list[int]] = {}
        for at in range(1, (await streams.stream_info(settings.stream)).state.messages + 1):
            data = (await streams.get_msg(settings.stream, seq=at)).data
            assert data is not None
            found = event_pb2.Event.FromString(data)
            kept.setdefault(found.order_no, []).append(found.sequence)
        assert sum(map(len, kept.values())) == 100
        assert all(order == sorted(set(order)) for order in kept.values())


async def test_nobody_there_and_somebody_silent_are_told_apart_from_a_refusal() -> None:
    with pytest.raises(SinkUnavailable, match="cannot be reached"):
        await NatsSink(NatsSettings(("nats://127.0.0.1:1",))).deliver([event(1)])

    async def hush(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    gone = asyncio.Event()
    silent = await asyncio.start_server(hush, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    try:
        with pytest.raises(SinkUnavailable, match="cannot be reached"):
            sink = NatsSink(NatsSettings((f"nats://127.0.0.1:{port}",)), connect=timedelta(milliseconds=300))
            await sink.deliver([event(1)])
        await asyncio.wait_for(gone.wait(), PATIENCE)  # what was half open is closed
    finally:
        silent.close()


@pytest.mark.parametrize(("text", "made"), [("440305001", "440305001"), ("a.b *>", "a_b___"), ("", "_")])
def test_a_site_code_is_one_token_of_the_subject(text: str, made: str) -> None:
    assert token(text) == made
