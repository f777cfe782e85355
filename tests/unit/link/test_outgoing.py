from __future__ import annotations

import asyncio
from typing import Any

import pytest
from his160.v1 import relay_pb2

from agent.link.assembly import MAX_MESSAGE_BYTES, Assembly, MessageTooLarge
from agent.link.errors import LinkBroken
from agent.link.outgoing import CHUNK_BYTES, MAX_CONTROL_FRAMES, Outgoing
from tests.bounds import PATIENCE


def ping(number: int) -> relay_pb2.AttachRequest:
    return relay_pb2.AttachRequest(ping=relay_pb2.LinkPing(number=number))


async def start(*messages: asyncio.Task[Any]) -> None:
    """Let the producers reach their first wait."""
    for _ in range(3):
        await asyncio.sleep(0)


async def take(outgoing: Outgoing, number: int) -> list[relay_pb2.LinkReply]:
    replies = []
    for _ in range(number):
        async with asyncio.timeout(PATIENCE):
            frame = await outgoing.next_frame()
        assert frame is not None
        replies.append(frame.reply)
    return replies


async def nothing(outgoing: Outgoing) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await outgoing.next_frame()


async def test_calls_take_turns_chunk_by_chunk() -> None:
    outgoing = Outgoing()
    report = asyncio.create_task(outgoing.flow(1).message(bytes(5 * CHUNK_BYTES), last=True))
    booking = asyncio.create_task(outgoing.flow(2).message(b"ok", last=True))
    other = asyncio.create_task(outgoing.flow(3).message(bytes(2 * CHUNK_BYTES), last=True))
    await start(report, booking, other)
    replies = await take(outgoing, 8)
    assert [reply.call_id for reply in replies] == [1, 2, 3, 1, 3, 1, 1, 1]
    assert [reply.end_of_call for reply in replies] == [False, True, False, False, True, False, False, True]
    await asyncio.gather(report, booking, other)


async def test_control_frames_go_first() -> None:
    outgoing = Outgoing()
    report = asyncio.create_task(outgoing.flow(1).message(bytes(2 * CHUNK_BYTES), last=True))
    await start(report)
    await take(outgoing, 1)
    outgoing.control(ping(7))
    frame = await outgoing.next_frame()
    assert frame == ping(7)
    await take(outgoing, 1)
    await report


async def test_a_call_without_credit_waits_alone() -> None:
    outgoing = Outgoing()
    outgoing.peer_window(CHUNK_BYTES + 10)
    flow = outgoing.flow(1)
    report = asyncio.create_task(flow.message(bytes(3 * CHUNK_BYTES), last=False))
    await start(report)
    assert [len(reply.payload) for reply in await take(outgoing, 2)] == [CHUNK_BYTES, 10]
    await nothing(outgoing)
    booking = asyncio.create_task(outgoing.flow(2).message(b"ok", last=True))
    await start(booking)
    assert [reply.call_id for reply in await take(outgoing, 1)] == [2]
    flow.grant(-5)
    await nothing(outgoing)
    flow.grant(1 << 40)
    sizes = [len(reply.payload) for reply in await take(outgoing, 2)]
    assert sizes == [CHUNK_BYTES, CHUNK_BYTES - 10]
    await asyncio.gather(report, booking)


async def test_an_empty_message_and_an_end_need_no_credit() -> None:
    outgoing = Outgoing()
    outgoing.peer_window(1)
    flow = outgoing.flow(1)
    one = asyncio.create_task(flow.message(b"x", last=False))
    await start(one)
    await take(outgoing, 1)
    await one
    empty = asyncio.create_task(flow.message(b"", last=False))
    await start(empty)
    (reply,) = await take(outgoing, 1)
    assert reply.end_of_message
    await empty
    flow.end(b"status")
    (reply,) = await take(outgoing, 1)
    assert reply.end_of_call
    assert reply.status == b"status"


async def test_a_message_given_up_leaves_the_round() -> None:
    outgoing = Outgoing()
    flow = outgoing.flow(1)
    report = asyncio.create_task(flow.message(bytes(3 * CHUNK_BYTES), last=True))
    await start(report)
    await take(outgoing, 1)
    report.cancel()
    await asyncio.gather(report, return_exceptions=True)
    flow.end(b"cancelled")
    (reply,) = await take(outgoing, 1)
    assert reply.end_of_call
    outgoing.close()
    assert await outgoing.next_frame() is None


async def test_a_peer_that_never_reads_ends_the_link() -> None:
    outgoing = Outgoing()
    for number in range(MAX_CONTROL_FRAMES):
        outgoing.control(ping(number))
    with pytest.raises(LinkBroken):
        outgoing.control(ping(0))


async def test_assembly_grants_what_the_reader_waits_for() -> None:
    granted: list[int] = []
    assembly = Assembly(granted.append)
    assembly.part(b"aaa", end_of_message=False)
    assert granted == [3], "the message being made must be able to become whole"
    assembly.part(b"b", end_of_message=True)
    assembly.part(b"cc", end_of_message=False)
    assert granted == [3], "a whole message waits: no more for now"
    assert await assembly.next_message() == b"aaab"
    assert granted == [3, 3]
    assembly.part(b"d", end_of_message=True)
    assembly.end(b"")
    assert await assembly.next_message() == b"ccd"
    assert await assembly.next_message() is None
    assert granted == [3, 3], "nothing is granted to a call that has ended"


async def test_assembly_refuses_what_is_too_large() -> None:
    assembly = Assembly(lambda _: None)
    assembly.part(bytes(MAX_MESSAGE_BYTES), end_of_message=False)
    with pytest.raises(MessageTooLarge):
        assembly.part(b"x", end_of_message=False)


async def test_assembly_fails_those_who_wait() -> None:
    assembly = Assembly(lambda _: None)
    waiting = asyncio.create_task(assembly.next_message())
    await start(waiting)
    assembly.fail(LinkBroken("closed", "gone"))
    with pytest.raises(LinkBroken):
        await waiting
