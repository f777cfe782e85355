from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest
from google.protobuf import duration_pb2
from his160.v1 import relay_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import explain
from agent.link.errors import LinkBroken
from tests.bounds import PATIENCE
from tests.unit.link.bench import PREFIX
from tests.unit.link.scripted import Script


async def test_settings_come_first() -> None:
    async with Script(operations=("A.B",), dead_after=timedelta(seconds=15)) as script:
        script.greet()
        script.call(1, "Echo", b"hello")
        (reply,) = await script.ended(1)
        first = script.stream.written[0].settings
        assert (first.revision, first.site, first.window_bytes, first.dead_after.seconds) == (1, "S", 65536, 15)
        assert list(first.operations) == ["A.B"]
        assert (reply.payload, reply.end_of_message, reply.end_of_call, reply.status) == (b"hello", True, True, b"")


@pytest.mark.parametrize(
    "frame",
    [
        relay_pb2.AttachResponse(),
        relay_pb2.AttachResponse(ping=relay_pb2.LinkPing()),
        relay_pb2.AttachResponse(settings=relay_pb2.LinkSettings(revision=-1)),
    ],
)
async def test_a_bad_greeting_is_a_broken_protocol(frame: relay_pb2.AttachResponse) -> None:
    async with Script() as script:
        script.stream.inbound.put_nowait(frame)
        with pytest.raises(LinkBroken, match="protocol"):
            await script.result()


async def test_no_greeting_is_silence() -> None:
    async with Script(greet_within=timedelta(seconds=0.01)) as script:
        with pytest.raises(LinkBroken, match="silent"):
            await script.result()


async def test_a_stream_that_ends_without_goodbye_is_a_loss() -> None:
    async with Script() as script:
        script.greet()
        script.stream.inbound.put_nowait(None)
        with pytest.raises(LinkBroken, match="closed"):
            await script.result()


async def test_a_broken_stream_cancels_what_waits() -> None:
    async with Script() as script:
        script.greet()
        script.call(1, "Hang")
        await script.dispatcher.started.wait()
        script.stream.inbound.put_nowait(LinkBroken("unreachable", "gone"))
        with pytest.raises(LinkBroken, match="unreachable"):
            await script.result()
        assert script.dispatcher.cancelled.is_set()
        assert script.session.calls_under_way == 0


async def test_bad_calls_get_a_status_and_harm_nobody() -> None:
    async with Script(max_calls=2) as script:
        script.greet()
        script.call(1, "Hang")
        script.call(2, "Nothing")
        assert explain(await script.status(2)).code == "UNIMPLEMENTED"
        script.send(call=relay_pb2.LinkCall(call_id=3))
        assert explain(await script.status(3)).code == "INVALID_ARGUMENT"
        script.send(call=relay_pb2.LinkCall(call_id=4, method="x" * 5000))
        assert explain(await script.status(4)).code == "INVALID_ARGUMENT"
        script.call(5, "Echo", timeout=duration_pb2.Duration(seconds=1, nanos=-7))
        await script.ended(5)
        script.call(6, "Echo", timeout=duration_pb2.Duration(seconds=-1))
        assert explain(await script.status(6)).reason == "DEADLINE_EXCEEDED"
        script.call(7, "Defect")
        assert explain(await script.status(7)).reason == "INTERNAL"
        script.call(8, "Echo", timeout=duration_pb2.Duration(seconds=1 << 60))
        await script.ended(8)
        script.send()  # a frame of a kind that this revision does not know
        script.send(cancel=relay_pb2.LinkCancel(call_id=99))
        script.send(window=relay_pb2.LinkWindow(call_id=99, bytes=-1))
        script.dispatcher.release.set()
        (reply,) = await script.ended(1)
        assert reply.payload == b"released"
        assert script.session.passed_over == 1


async def test_a_flood_of_reads_leaves_places_to_commands() -> None:
    """A relay that does not count: what is too much is refused, and the last quarter of the places is the commands'."""
    async with Script(max_calls=4) as script:
        script.greet()
        for number in range(1, 4):
            script.call(number, "Hang")
        script.call(4, "Hang")
        refused = explain(await script.status(4))
        assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert refused.retry_after
        for number, method in ((5, "AppointmentService/BookAppointment"), (6, "PaymentService/RefundPayment")):
            script.send(call=relay_pb2.LinkCall(call_id=number, method=f"/his160.v1.{method}"))
            # The bench has no such method, but it was asked.
            assert explain(await script.status(number)).code == "UNIMPLEMENTED"
        script.dispatcher.release.set()
        for number in range(1, 4):
            assert (await script.ended(number))[-1].end_of_call


async def test_one_id_for_two_calls_is_an_unknown_outcome() -> None:
    async with Script() as script:
        script.greet()
        script.call(1, "Hang")
        script.call(1, "Echo", b"x")
        status = explain(await script.status(1))
        assert (status.code, status.reason) == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
        assert len(script.replies(1)) == 1


async def test_cancel_before_the_first_step_is_answered() -> None:
    async with Script() as script:
        script.greet()
        script.call(1, "Hang")
        script.send(cancel=relay_pb2.LinkCancel(call_id=1))
        assert explain(await script.status(1)).code == "CANCELLED"


async def test_the_agents_own_limit_holds_for_calls_without_one() -> None:
    async with Script(default_timeout=timedelta(seconds=0.01)) as script:
        script.greet()
        script.call(1, "Hang")
        assert explain(await script.status(1)).reason == "DEADLINE_EXCEEDED"
        script.call(2, "Hang", timeout=duration_pb2.Duration(seconds=3600))
        script.dispatcher.release.set()
        (reply,) = await script.ended(2)
        assert reply.payload == b"released", "a time that the relay gives counts"


async def test_pings_are_answered() -> None:
    async with Script() as script:
        script.greet()
        script.send(ping=relay_pb2.LinkPing(number=41))
        answer = relay_pb2.AttachRequest(ping=relay_pb2.LinkPing(number=41, answer=True))
        await script.stream.wait(lambda: answer in script.stream.written)


async def test_goodbye_of_the_relay_finishes_calls_first() -> None:
    async with Script() as script:
        script.greet()
        script.call(1, "Hang")
        await script.dispatcher.started.wait()
        script.send(goodbye=relay_pb2.LinkGoodbye(reason="update", reconnect=True))
        script.call(2, "Echo")
        assert explain(await script.status(2)).reason == "SITE_NOT_ATTACHED"
        assert not script.stream.ended.is_set()
        script.dispatcher.release.set()
        await script.ended(1)
        async with asyncio.timeout(PATIENCE):
            await script.stream.ended.wait()
        assert any(frame.WhichOneof("frame") == "goodbye" for frame in script.stream.written)
        script.stream.inbound.put_nowait(None)
        assert (await script.result()).reconnect


async def test_payloads_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Script() as script:
        script.greet()
        script.call(1, "Echo", b"secret-payload")
        script.call(2, "Defect", b"secret-payload")
        await script.ended(1)
        await script.ended(2)
        script.stream.inbound.put_nowait(None)
        with pytest.raises(LinkBroken):
            await script.result()
    assert "secret-payload" not in caplog.text
    assert "patient" not in caplog.text


def frames() -> st.SearchStrategy[relay_pb2.AttachResponse]:
    """Frames of all kinds with silly values; call ids from 10 on, so that those of the test stay its own."""
    ids = st.integers(10, 14)
    durations = st.builds(
        duration_pb2.Duration,
        seconds=st.integers(-(2**63), 2**63 - 1),
        nanos=st.integers(-(2**31), 2**31 - 1),
    )
    methods = st.sampled_from(["Echo", "Big", "Refuse", "Defect", "Hang", "Count", "Flood", "?"]).map(PREFIX.__add__)
    calls = st.builds(
        relay_pb2.LinkCall,
        call_id=ids,
        method=methods | st.text(max_size=5),
        payload=st.binary(max_size=40) | st.just(b"3"),
        timeout=st.none() | durations,
        caller=st.text(max_size=5),
    )
    pings = st.builds(relay_pb2.LinkPing, number=st.integers(-(2**63), 2**63 - 1), answer=st.booleans())
    windows = st.builds(relay_pb2.LinkWindow, call_id=ids, bytes=st.integers(-(2**31), 2**31 - 1))
    cancels = st.builds(relay_pb2.LinkCancel, call_id=ids)
    again = st.builds(relay_pb2.LinkSettings, revision=st.integers(-5, 5), window_bytes=st.integers(-5, 5))
    return st.one_of(
        st.builds(relay_pb2.AttachResponse, call=calls),
        st.builds(relay_pb2.AttachResponse, ping=pings),
        st.builds(relay_pb2.AttachResponse, window=windows),
        st.builds(relay_pb2.AttachResponse, cancel=cancels),
        st.builds(relay_pb2.AttachResponse, settings=again),
        st.just(relay_pb2.AttachResponse()),
    )


async def play(garbage: list[relay_pb2.AttachResponse]) -> None:
    async with Script() as script:
        script.greet(window_bytes=100)
        script.call(1, "Hang")
        for frame in garbage:
            script.stream.inbound.put_nowait(frame)
        script.call(2, "Echo", b"still here")
        (reply,) = await script.ended(2)
        assert reply.payload == b"still here"
        script.dispatcher.release.set()
        (reply,) = await script.ended(1)
        assert reply.payload == b"released"
        assert script.running is not None
        assert not script.running.done()


@settings(max_examples=60, deadline=None)
@given(st.lists(frames(), max_size=12))
def test_no_frame_kills_the_link_or_harms_another_call(garbage: list[relay_pb2.AttachResponse]) -> None:
    asyncio.run(play(garbage))
