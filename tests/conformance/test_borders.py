"""One contract, two borders: what a caller sees is the same, whichever way the call came in.

A border opens callers of an identity: the gRPC server that a relay dials, and the link that the agent has dialled. The
HIS behind is a fake: what is tested is everything between a socket and the HIS.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import status_pb2
from google.type.date_pb2 import Date
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]
from his160.v1 import agent_pb2, appointment_pb2, catalog_pb2, desk_pb2, event_pb2, patient_pb2, reason_pb2, report_pb2

from agent.bench_pki import BenchAuthority, BenchPki, KeyPair, make_authority, make_bench_pki
from agent.border_server import DETAILS_KEY, BorderServer
from agent.config import ServerSettings
from agent.errors import CallRefused, Explained, explain
from agent.figures import Figures
from agent.handler import Identity
from agent.handlers.agent_service import get_info, get_status
from agent.handlers.event_service import ack_events, read_events
from agent.link.answering import RegistryAnswerer
from agent.link.channel import LinkTarget
from agent.link.relay_link import RelayLink
from agent.link.session import SessionSettings
from agent.registry import HandlerRegistry, Limits, build_registry
from agent.sandbox.server import Sandbox, SandboxSettings
from agent.status import StatusBoard
from his_db.contract import operation, operation_names
from his_db.errors import HisBusy, HisRefused, OperationNotMapped, OutcomeUnknown
from sync.clock import utc_now
from sync.command import CommandExecutor
from sync.store import open_store
from tests.bounds import PATIENCE

SITE = "440305001"
NAME = "张三丰"
DOCUMENT = "11010519491231002X"


@dataclass
class FakeHis:
    """Answers by script; remembers what it was asked. What HisAccess is to handlers and commands."""

    answers: dict[str, Message | Exception | Callable[[Message], Awaitable[Message]]] = field(default_factory=dict)
    asked: list[tuple[str, float | None]] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)

    async def read(self, name: str, request: Message, *, deadline: float | None = None) -> Message:
        self.asked.append((name, deadline))
        answer = self.answers.get(name)
        if answer is None:
            raise OperationNotMapped(name, note="本院暂未开放")
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = await answer(request)
        self.finished.append(name)
        return answer

    async def write(self, name: str, request: Message, *, key: str, deadline: float | None = None) -> Message:
        return await self.read(name, request, deadline=deadline)

    def enter(self, name: str) -> None:
        """Nothing is switched off."""

    def maps(self, name: str) -> bool:
        return name in self.answers


class FakeFeed:
    """An outbox in memory."""

    def __init__(self) -> None:
        self.events: list[event_pb2.Event] = []
        self.acked: list[str] = []
        self.changed = asyncio.Event()

    def add(self, sequence: int) -> None:
        self.events.append(event_pb2.Event(event_id=f"{sequence:032x}", sequence=sequence))
        self.changed.set()
        self.changed = asyncio.Event()

    def change(self) -> asyncio.Event:
        return self.changed

    async def after(self, sequence: int, limit: int) -> Sequence[event_pb2.Event]:
        return [event for event in self.events if event.sequence > sequence][:limit]

    async def ack(self, event_ids: Sequence[str]) -> int:
        new = [item for item in event_ids if item not in self.acked]
        self.acked += new
        return len(new)


@dataclass(frozen=True)
class FakeCapability:
    operation: str
    available: bool
    note: str = ""


class FakeGeneration:
    revision = "abc123"

    def capabilities(self) -> list[FakeCapability]:
        return [
            FakeCapability("CatalogService.ListSlots", True),
            FakeCapability("PaymentService.RefundPayment", False, "本院不支持在线退号"),
        ]


class Refused(Exception):
    """A call that was not answered, as the caller sees it."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status
        self.explained: Explained = explain(status)


class Caller:
    """Calls by operation name over one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    async def call(self, name: str, request: Message, timeout: float = 10) -> Any:
        about = operation(name)
        method = self.channel.unary_unary(
            about.full_method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=about.response_class.FromString,
        )
        with translated():
            return await method(request, timeout=timeout)

    async def stream(self, name: str, request: Message, timeout: float | None = 10) -> AsyncIterator[Any]:
        about = operation(name)
        method = self.channel.unary_stream(
            about.full_method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=about.response_class.FromString,
        )
        with translated():
            async for answer in method(request, timeout=timeout):
                yield answer


@contextlib.contextmanager
def translated() -> Any:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        details = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
        if details is None:
            raise
        assert isinstance(details, bytes)
        status = status_pb2.Status.FromString(details)
        if (status.code, status.message) != (error.code().value[0], error.details()):
            raise AssertionError("the rich status is not the plain one") from error
        raise Refused(status) from error


class ServerBorder:
    """The gRPC server of an agent, over mutual TLS on the loopback."""

    def __init__(self, pki: BenchPki, registry: HandlerRegistry) -> None:
        self.pki = pki
        self.settings = ServerSettings(
            True, "127.0.0.1", 0, pki.agent.certificate, pki.agent.key, pki.ca, insecure=False
        )
        self.server = BorderServer(self.settings, registry)
        self._channels: list[grpc.aio.Channel] = []

    async def start(self) -> None:
        await self.server.start()

    def caller(self, pair: KeyPair | None, ca: Path | None = None) -> Caller:
        """A caller with a certificate; without one when ``pair`` is None."""
        credentials = grpc.ssl_channel_credentials(
            (ca or self.pki.ca).read_bytes(),
            pair.key.read_bytes() if pair else None,
            pair.certificate.read_bytes() if pair else None,
        )
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        channel = grpc.aio.secure_channel(f"127.0.0.1:{self.server.port}", credentials, options=options)
        self._channels.append(channel)
        return Caller(channel)

    def relay(self) -> Caller:
        return self.caller(self.pki.relay)

    async def stop(self) -> None:
        for channel in self._channels:
            await channel.close()
        await self.server.stop(timedelta(seconds=1))


class LinkBorder:
    """The relay link: the agent has dialled a sandbox relay, which passes calls in. It carries the relay only."""

    def __init__(self, pki: BenchPki, registry: HandlerRegistry) -> None:
        self.pki = pki
        self.folder = tempfile.TemporaryDirectory()
        settings = SandboxSettings(
            listen="127.0.0.1:0",
            control="127.0.0.1:0",
            ca=pki.ca,
            certificate=pki.relay.certificate,
            key=pki.relay.key,
            store=Path(self.folder.name) / "events",
        )
        self.sandbox = Sandbox(settings)
        self.answerer = RegistryAnswerer(registry, Identity("relay", "bench"))
        self._channels: list[grpc.aio.Channel] = []

    async def start(self) -> None:
        await self.sandbox.start()
        target = LinkTarget(self.sandbox.listen, self.pki.ca, self.pki.agent.certificate, self.pki.agent.key)
        self.link = RelayLink(target, lambda: SessionSettings(SITE, "one", "0.1.0", operation_names()), self.answerer)
        connected = asyncio.Event()
        self.link.on_connected(lambda link: connected.set())
        self.running = asyncio.create_task(self.link.run())
        async with asyncio.timeout(PATIENCE):
            await connected.wait()

    def caller(self, pair: KeyPair | None, ca: Path | None = None) -> Caller:
        if pair != self.pki.relay:
            raise ValueError("a link carries the relay only")
        channel = grpc.aio.insecure_channel(
            self.sandbox.control,
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 5_000_000)],
        )
        self._channels.append(channel)
        return Caller(channel)

    def relay(self) -> Caller:
        return self.caller(self.pki.relay)

    async def stop(self) -> None:
        for channel in self._channels:
            await channel.close()
        self.link.stop()
        async with asyncio.timeout(PATIENCE):
            await self.running
        await self.sandbox.stop()
        self.folder.cleanup()


BORDERS: dict[str, Callable[[BenchPki, HandlerRegistry], Any]] = {"server": ServerBorder, "link": LinkBorder}


# What only the server border has: other identities than the relay, health, reflection, certificates.
server_only = pytest.mark.parametrize("bench", ["server"], indirect=True)


@dataclass
class Bench:
    """Everything a test may look at."""

    his: FakeHis
    feed: FakeFeed
    figures: Figures
    registry: HandlerRegistry
    pki: BenchPki
    border: Any
    stopping: asyncio.Event
    executor: CommandExecutor


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> BenchPki:
    return make_bench_pki(tmp_path_factory.mktemp("pki"), site=SITE)


@pytest.fixture(params=sorted(BORDERS))
async def bench(request: pytest.FixtureRequest, pki: BenchPki, tmp_path: Path) -> AsyncIterator[Bench]:
    his, feed, figures, stopping = FakeHis(), FakeFeed(), Figures(), asyncio.Event()
    board = StatusBoard(SITE, "one", figures=figures, clock=lambda: datetime.now(UTC))
    board.report("source:his", agent_pb2.HEALTH_DOWN, "no connection")
    store = open_store(tmp_path / "state.db", utc_now)
    executor = CommandExecutor(his, store, clock=utc_now, settle=timedelta(0))
    registry = build_registry(
        his,
        executor,
        figures=figures,
        specials={
            "AgentService.GetInfo": get_info(SITE, "one", "0.1.0", FakeGeneration),
            "AgentService.GetStatus": get_status(board),
            "EventService.AckEvents": ack_events(feed),
        },
        special_streams={"EventService.ReadEvents": read_events(feed, stopping)},
        limits=Limits(calls=8),
    )
    border = BORDERS[request.param](pki, registry)
    await border.start()
    yield Bench(his, feed, figures, registry, pki, border, stopping, executor)
    stopping.set()
    await border.stop()
    await store.close()


def lock_request(**changes: str) -> appointment_pb2.LockSlotRequest:
    values = {"request_id": "r1", "order_no": "o1", "schedule_id": "s1", "slot_id": "n1", **changes}
    return appointment_pb2.LockSlotRequest(**values)


def reason(caught: pytest.ExceptionInfo[Refused]) -> tuple[str, str]:
    return caught.value.explained.code, caught.value.explained.reason


async def test_a_read_is_answered(bench: Bench) -> None:
    answer = catalog_pb2.ListSlotsResponse(slots=[catalog_pb2.Slot(slot_id="n1")], next_page_token="t")
    bench.his.answers["CatalogService.ListSlots"] = answer
    got = await bench.border.relay().call(
        "CatalogService.ListSlots", catalog_pb2.ListSlotsRequest(schedule_id="s1"), timeout=7
    )
    assert got == answer
    ((_, deadline),) = bench.his.asked
    assert deadline is not None
    left = deadline - asyncio.get_running_loop().time()
    assert 5 < left <= 7


async def test_a_command_is_answered(bench: Bench) -> None:
    answer = appointment_pb2.LockSlotResponse(lock=appointment_pb2.SlotLock(lock_id="l1"))
    bench.his.answers["AppointmentService.LockSlot"] = answer
    assert await bench.border.relay().call("AppointmentService.LockSlot", lock_request()) == answer


OF_THE_RELAY = [n for n in operation_names() if not n.startswith(("AgentService", "EventService", "DeskService"))]
OF_THE_DESK = [n for n in operation_names() if n.startswith("DeskService")]


@pytest.mark.parametrize("name", OF_THE_RELAY)
async def test_what_is_not_mapped_says_so(bench: Bench, name: str) -> None:
    await refused_as_unmapped(bench.border.relay(), name)


@server_only
@pytest.mark.parametrize("name", OF_THE_DESK)
async def test_what_is_not_mapped_says_so_to_the_desk(bench: Bench, name: str) -> None:
    await refused_as_unmapped(bench.border.caller(bench.pki.desk), name)


async def refused_as_unmapped(caller: Caller, name: str) -> None:
    request = valid_request(name)
    with pytest.raises(Refused) as caught:
        if operation(name).server_streaming:
            _ = [answer async for answer in caller.stream(name, request)]
        else:
            await caller.call(name, request)
    assert reason(caught) == ("UNIMPLEMENTED", "OPERATION_NOT_MAPPED")
    assert caught.value.explained.operation == name
    assert caught.value.explained.text == "本院未开通此功能：本院暂未开放"


# Texts that may not be any text: of a form, or another one than the patient's.
KEEP_THEIR_RULE: Final = {"mobile": "13800000000", "guardian_document_no": "bbbbbb"}


def valid_request(name: str) -> Message:
    """A request that keeps every rule: each text and date filled in."""
    request = operation(name).request_class()
    today = datetime.now(UTC).date()
    for item in request.DESCRIPTOR.fields:
        if item.type == item.TYPE_STRING and not item.is_repeated and item.name != "page_token":
            setattr(request, item.name, KEEP_THEIR_RULE.get(item.name, "aaaaaa"))
        elif item.message_type is not None and item.message_type.full_name == "google.type.Date":
            getattr(request, item.name).CopyFrom(Date(year=today.year, month=today.month, day=today.day))
        elif item.message_type is not None and item.message_type.full_name == "google.protobuf.Timestamp":
            getattr(request, item.name).seconds = 1_700_000_000
        elif item.enum_type is not None:
            setattr(request, item.name, 1)
        elif item.name == "amount_fen":
            request.amount_fen = 1  # type: ignore[attr-defined]
        elif item.name == "credential":
            request.credential.certificate_type = "01"  # type: ignore[attr-defined]
            request.credential.certificate_no = "x"  # type: ignore[attr-defined]
        elif item.name == "agreed_split":
            request.agreed_split.SetInParent()  # type: ignore[attr-defined]
    return request


async def test_a_refusal_of_the_his_carries_every_detail(bench: Bench) -> None:
    bench.his.answers["AppointmentService.LockSlot"] = HisRefused(
        reason_pb2.REASON_SLOT_TAKEN, "ghao_lock: no row", text=f"{NAME}的号已被占用"
    )
    with pytest.raises(Refused) as caught:
        await bench.border.relay().call("AppointmentService.LockSlot", lock_request())
    assert reason(caught) == ("FAILED_PRECONDITION", "SLOT_TAKEN")
    explained = caught.value.explained
    assert explained.text == "该号已被占用，请选择其他号源"
    assert explained.retry_after is None
    assert NAME.encode() not in caught.value.status.SerializeToString()
    assert b"ghao_lock" not in caught.value.status.SerializeToString()


async def test_waiting_is_told_where_it_helps(bench: Bench) -> None:
    bench.his.answers["CatalogService.ListDepartments"] = HisBusy("deadlock", retry_after=timedelta(seconds=3))
    with pytest.raises(Refused) as caught:
        await bench.border.relay().call("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest())
    assert reason(caught) == ("UNAVAILABLE", "HIS_BUSY")
    assert caught.value.explained.retry_after == timedelta(seconds=3)


async def test_a_request_id_is_one_request(bench: Bench) -> None:
    bench.his.answers["AppointmentService.LockSlot"] = appointment_pb2.LockSlotResponse()
    caller = bench.border.relay()
    await caller.call("AppointmentService.LockSlot", lock_request())
    with pytest.raises(Refused) as caught:
        await caller.call("AppointmentService.LockSlot", lock_request(slot_id="n2"))
    assert reason(caught) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


async def test_an_unknown_outcome_is_not_a_failure(bench: Bench) -> None:
    bench.his.answers["AppointmentService.LockSlot"] = OutcomeUnknown("lost after sending")
    with pytest.raises(Refused) as caught:
        await bench.border.relay().call("AppointmentService.LockSlot", lock_request())
    assert reason(caught) == ("UNAVAILABLE", "OUTCOME_UNKNOWN")


async def test_bad_requests_name_every_field(bench: Bench) -> None:
    request = appointment_pb2.LockSlotRequest(request_id="r" * 65, order_no="o\n1", slot_id="n1")
    with pytest.raises(Refused) as caught:
        await bench.border.relay().call("AppointmentService.LockSlot", request)
    assert reason(caught) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert [item.field for item in caught.value.explained.violations] == ["request_id", "order_no", "schedule_id"]
    assert bench.his.asked == []


async def test_bytes_that_are_no_message_are_refused(bench: Bench) -> None:
    caller = bench.border.relay()
    method = caller.channel.unary_unary(operation("CatalogService.ListSlots").full_method)
    with pytest.raises(Refused) as caught, translated():
        await method(b"\xff\xff\xff", timeout=PATIENCE)
    assert reason(caught) == ("INVALID_ARGUMENT", "INVALID_REQUEST")


async def test_a_defect_tells_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.his.answers["PatientService.FindPatients"] = ValueError(f"cannot read {NAME} {DOCUMENT} of table brxx")
    with pytest.raises(Refused) as caught:
        await bench.border.relay().call(
            "PatientService.FindPatients", patient_pb2.FindPatientsRequest(document_no=DOCUMENT)
        )
    assert reason(caught) == ("INTERNAL", "INTERNAL")
    said = caught.value.status.SerializeToString()
    assert NAME.encode() not in said
    assert b"brxx" not in said
    assert "ValueError" in caplog.text
    assert NAME not in caplog.text
    assert DOCUMENT not in caplog.text


async def test_an_answer_has_a_limit(bench: Bench) -> None:
    slots = [catalog_pb2.Slot(slot_id="x" * 1000)] * 4300
    bench.his.answers["CatalogService.ListSlots"] = catalog_pb2.ListSlotsResponse(slots=slots)
    with pytest.raises(Refused) as caught:
        await bench.border.relay().call("CatalogService.ListSlots", catalog_pb2.ListSlotsRequest(schedule_id="s1"))
    assert reason(caught) == ("RESOURCE_EXHAUSTED", "ANSWER_TOO_LARGE")
    assert caught.value.explained.retry_after is None


async def test_an_answer_just_below_the_limit_passes(bench: Bench) -> None:
    slots = [catalog_pb2.Slot(slot_id="x" * 1000)] * 4100
    bench.his.answers["CatalogService.ListSlots"] = catalog_pb2.ListSlotsResponse(slots=slots)
    got = await bench.border.relay().call("CatalogService.ListSlots", catalog_pb2.ListSlotsRequest(schedule_id="s1"))
    assert len(got.slots) == 4100


@server_only
@pytest.mark.parametrize(
    ("who", "name", "request_"),
    [
        ("desk", "CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest()),
        ("desk", "AgentService.GetStatus", agent_pb2.GetStatusRequest()),
        ("operator", "AppointmentService.LockSlot", lock_request()),
        ("operator", "EventService.AckEvents", event_pb2.AckEventsRequest()),
        ("relay", "DeskService.GetOrder", desk_pb2.GetOrderRequest(order_no="o1")),
        ("agent", "AgentService.GetInfo", agent_pb2.GetInfoRequest()),
    ],
)
async def test_identities_keep_to_their_methods(bench: Bench, who: str, name: str, request_: Message) -> None:
    caller = bench.border.caller(getattr(bench.pki, who))
    with pytest.raises(Refused) as caught:
        await caller.call(name, request_)
    assert reason(caught) == ("PERMISSION_DENIED", "NOT_AUTHORIZED")
    assert bench.his.asked == []


@server_only
async def test_an_operator_may_look(bench: Bench) -> None:
    status = await bench.border.caller(bench.pki.operator).call("AgentService.GetStatus", agent_pb2.GetStatusRequest())
    assert status.health == agent_pb2.HEALTH_DOWN
    assert [component.name for component in status.components] == ["source:his"]
    assert status.resident_bytes > 1_000_000


async def test_info_names_every_operation(bench: Bench) -> None:
    info = await bench.border.relay().call("AgentService.GetInfo", agent_pb2.GetInfoRequest())
    assert (info.site, info.instance, info.version, info.mapping_revision) == (SITE, "one", "0.1.0", "abc123")
    assert tuple(capability.operation for capability in info.capabilities) == operation_names()
    by_name = {capability.operation: capability for capability in info.capabilities}
    assert by_name["CatalogService.ListSlots"].available
    assert by_name["EventService.ReadEvents"].available
    assert by_name["PaymentService.RefundPayment"].note == "本院不支持在线退号"
    assert not by_name["DeskService.GetOrder"].available


async def test_a_deadline_ends_a_read(bench: Bench) -> None:
    bench.his.answers["CatalogService.ListDepartments"] = forever
    with pytest.raises((Refused, grpc.aio.AioRpcError)) as caught:
        await bench.border.relay().call(
            "CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest(), timeout=0.2
        )
    error = caught.value
    if isinstance(error, Refused):
        assert error.explained.reason == "DEADLINE_EXCEEDED"
    else:  # the caller's own clock was first
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def forever(request: Message) -> Message:
    await asyncio.Event().wait()
    return request


async def test_a_command_is_finished_without_its_caller(bench: Bench) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Message) -> Message:
        begun.set()
        await go_on.wait()
        return appointment_pb2.LockSlotResponse()

    bench.his.answers["AppointmentService.LockSlot"] = slow
    call = asyncio.create_task(bench.border.relay().call("AppointmentService.LockSlot", lock_request()))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await bench.registry.drain(timedelta(seconds=5)) == 0
    assert await bench.executor.drain(timedelta(milliseconds=50)) == 1
    go_on.set()
    assert await bench.executor.drain(timedelta(seconds=5)) == 0
    assert bench.his.finished == ["AppointmentService.LockSlot"]
    # The retry gets the answer of the ledger; the HIS is not asked again.
    kept = await bench.border.relay().call("AppointmentService.LockSlot", lock_request())
    assert kept == appointment_pb2.LockSlotResponse()
    assert bench.his.finished == ["AppointmentService.LockSlot"]


async def test_a_read_ends_with_its_caller(bench: Bench) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(request: Message) -> Message:
        begun.set()
        try:
            return await forever(request)
        finally:
            ended.set()

    bench.his.answers["CatalogService.ListDepartments"] = slow
    call = asyncio.create_task(
        bench.border.relay().call("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest())
    )
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    async with asyncio.timeout(PATIENCE):
        await ended.wait()


async def test_more_calls_than_places_are_refused(bench: Bench) -> None:
    bench.his.answers["CatalogService.ListDepartments"] = forever
    caller = bench.border.relay()
    waiting = [
        asyncio.create_task(caller.call("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest()))
        for _ in range(9)
    ]
    async with asyncio.timeout(PATIENCE):
        while sum(task.done() for task in waiting) < 9 - 6:  # 8 calls, of which reads take three quarters
            await asyncio.wait([task for task in waiting if not task.done()], return_when=asyncio.FIRST_COMPLETED)
    pending = [task for task in waiting if not task.done()]
    assert len(pending) == 6
    for error in (task.exception() for task in waiting if task.done()):
        assert isinstance(error, Refused)
        assert error.explained.reason == "OVERLOADED"
        assert error.explained.retry_after is not None
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


async def test_events_are_read_as_they_come_and_acked(bench: Bench) -> None:
    bench.feed.add(3)
    caller = bench.border.relay()
    pages = caller.stream("EventService.ReadEvents", event_pb2.ReadEventsRequest(after_sequence=2), timeout=None)
    first = await anext(pages)
    bench.feed.add(7)
    second = await anext(pages)
    assert [event.sequence for page in (first, second) for event in page.events] == [3, 7]
    bench.stopping.set()
    assert [page async for page in pages] == []
    ids = [event.event_id for event in first.events]
    acked = await caller.call("EventService.AckEvents", event_pb2.AckEventsRequest(event_ids=ids * 2))
    assert acked.newly_acked >= 1


async def test_a_stopping_agent_takes_no_more_calls(bench: Bench) -> None:
    bench.registry.close()
    with pytest.raises(Refused) as caught:
        await bench.border.relay().call("AgentService.GetInfo", agent_pb2.GetInfoRequest())
    assert reason(caught) == ("UNAVAILABLE", "SITE_NOT_ATTACHED")


async def test_calls_are_counted(bench: Bench) -> None:
    caller = bench.border.relay()
    await caller.call("AgentService.GetInfo", agent_pb2.GetInfoRequest())
    with pytest.raises(Refused):
        await caller.call("AppointmentService.LockSlot", lock_request())
    figures = bench.figures.snapshot()
    assert figures["calls"] == 2
    assert figures["calls:AgentService.GetInfo"] == 1
    assert figures["refusals:OPERATION_NOT_MAPPED"] == 1
    assert figures["seconds:AppointmentService.LockSlot"] > 0


# What only the server border has.


@pytest.fixture
async def server(bench: Bench) -> ServerBorder:
    assert isinstance(bench.border, ServerBorder)
    return bench.border


@server_only
async def test_health_and_reflection(server: ServerBorder) -> None:
    caller = server.caller(server.pki.operator)
    stub = health_pb2_grpc.HealthStub(caller.channel)
    for name in ("", "his160.v1.CatalogService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await server.server.set_serving(False)
    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING

    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = reflection_pb2_grpc.ServerReflectionStub(caller.channel).ServerReflectionInfo(
        iter([ask]), timeout=PATIENCE
    )
    listed = [item.name async for page in answers for item in page.list_services_response.service]
    assert {name for name in listed if name.startswith("his160")} == {
        f"his160.v1.{name}" for name in {n.split(".")[0] for n in operation_names()}
    }


@server_only
async def test_an_unknown_method_is_unimplemented(server: ServerBorder) -> None:
    method: Any = server.relay().channel.unary_unary("/his160.v1.CatalogService/Nothing")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(b"", timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def refused_at_the_door(caller: Caller) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.call("AgentService.GetInfo", agent_pb2.GetInfoRequest(), timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@server_only
async def test_no_certificate_is_refused(server: ServerBorder) -> None:
    await refused_at_the_door(server.caller(None))


@server_only
async def test_a_certificate_of_another_authority_is_refused(server: ServerBorder, tmp_path: Path) -> None:
    stranger = make_authority(tmp_path).issue("relay", Identity("relay", "bench"))
    await refused_at_the_door(server.caller(stranger))


async def issued(server: ServerBorder, tmp_path: Path, **options: Any) -> tuple[ServerBorder, BenchAuthority]:
    """Another server, whose authority the test holds."""
    authority = make_authority(tmp_path)
    own = authority.issue("agent", Identity("site", SITE))
    settings = ServerSettings(True, "127.0.0.1", 0, own.certificate, own.key, authority.path, insecure=False)
    other = ServerBorder.__new__(ServerBorder)
    other.pki = server.pki
    other.settings = settings
    other.server = BorderServer(settings, server.server._registry)
    other._channels = []
    await other.start()
    return other, authority


@server_only
async def test_an_expired_certificate_is_refused(server: ServerBorder, tmp_path: Path) -> None:
    other, authority = await issued(server, tmp_path)
    expired = authority.issue("old", Identity("relay", "old"), lifetime=timedelta(minutes=-5))
    await refused_at_the_door(other.caller(expired, authority.path))
    await other.stop()


@server_only
async def test_a_certificate_that_names_nobody_may_call_nothing(server: ServerBorder, tmp_path: Path) -> None:
    other, authority = await issued(server, tmp_path)
    nobody = authority.issue("nobody", None)
    with pytest.raises(Refused) as caught:
        await other.caller(nobody, authority.path).call("AgentService.GetInfo", agent_pb2.GetInfoRequest())
    assert reason(caught) == ("PERMISSION_DENIED", "NOT_AUTHORIZED")
    named = authority.issue("named", None, common_name="his160://relay/by-name")
    info = await other.caller(named, authority.path).call("AgentService.GetInfo", agent_pb2.GetInfoRequest())
    assert info.site == SITE
    await other.stop()


@server_only
async def test_a_renewed_certificate_needs_no_restart(server: ServerBorder, tmp_path: Path) -> None:
    other, authority = await issued(server, tmp_path)
    relay = authority.issue("relay", Identity("relay", "bench"))
    first = await presented(other.server.port, authority, relay)
    authority.issue("agent", Identity("site", SITE))
    second = await presented(other.server.port, authority, relay)
    assert first != second
    info = await other.caller(relay, authority.path).call("AgentService.GetInfo", agent_pb2.GetInfoRequest())
    assert info.site == SITE
    await other.stop()


async def presented(port: int, authority: BenchAuthority, relay: KeyPair) -> bytes:
    """The certificate that the server shows, DER."""
    import ssl

    context = ssl.create_default_context(cafile=str(authority.path))
    context.load_cert_chain(relay.certificate, relay.key)
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
    assert isinstance(shown, bytes)
    return shown


@server_only
async def test_a_port_that_is_taken_is_an_error(server: ServerBorder) -> None:
    settings = ServerSettings(
        True,
        "127.0.0.1",
        server.server.port,
        *(server.pki.agent.certificate, server.pki.agent.key),
        server.pki.ca,
        False,
    )
    with pytest.raises(OSError, match="cannot listen"):
        await BorderServer(settings, server.server._registry).start()


@server_only
async def test_without_tls_the_caller_is_local(server: ServerBorder) -> None:
    settings = ServerSettings(True, "127.0.0.1", 0, None, None, None, insecure=True)
    plain = BorderServer(settings, server.server._registry)
    await plain.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{plain.port}") as channel:
        info = await Caller(channel).call("AgentService.GetInfo", agent_pb2.GetInfoRequest())
        assert info.site == SITE
    await plain.stop(timedelta(0))


@pytest.mark.skipif(os.name != "posix", reason="rights of files are POSIX's")
def test_the_files_of_the_bench_are_private(pki: BenchPki) -> None:
    files = [path for path in pki.folder.iterdir() if path.is_file()]
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_the_report_stream_has_its_own_request() -> None:
    assert operation("ReportService.ReadReport").request_class is report_pb2.ReadReportRequest
    assert str(CallRefused(reason_pb2.REASON_INTERNAL)) == "INTERNAL"
