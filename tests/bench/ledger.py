"""Durable commands a second (admit and send in one commit, finish in another) beside raw SQLite commits and fsyncs."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from his160.v1 import appointment_pb2, common_pb2

from sync.clock import utc_now
from sync.commands import COMMANDS
from sync.ledger import Ledger, Send
from sync.store import open_store
from tests.bench.figures import Figure, against, middle, rounds_of
from tests.bench.packs import BOOK
from tests.bench.plan import Plan

GROUP: Final = "command ledger (2 durable commits a command)"
_ROW_BYTES: Final = 700  # about what a command's row holds: request, answer, hashes, keys


def measure(plan: Plan, folder: Path) -> list[Figure]:
    """Figures for each number of commands in flight. ``folder``: on the disk that is to be measured."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = (1, 8, 32)
    commands = [_commands(folder / f"ledger-{at}.db", at, plan.commands) for at in numbers]
    raw, synced = _raw_commits(folder / "raw.db", plan.commands), _fsyncs(folder / "raw.bin", plan.commands)
    found = rounds_of(plan.micro_rounds, [raw, synced, *commands])
    (raw_rate, raw_noise), (sync_rate, _) = middle(found[0]), middle(found[1])
    figures = [
        Figure(
            GROUP, "raw SQLite commits", raw_rate, "/s", {}, (against("raw fsync", raw_rate, sync_rate),), {}, raw_noise
        )
    ]
    for at, rates in zip(numbers, found[2:], strict=True):
        rate, noise = middle(rates)
        commits = against("raw commits, 2 a command", rate * 2, raw_rate)
        figures.append(Figure(GROUP, "commands", rate, "/s", {"in flight": at}, (commits,), {}, noise))
    return figures


def _commands(path: Path, in_flight: int, count: int) -> Callable[[], float]:
    def once() -> float:
        return asyncio.run(_run(path, in_flight, count))

    return once


async def _run(path: Path, in_flight: int, count: int) -> float:
    store = open_store(path, utc_now)
    ledger = Ledger(store, utc_now)
    command = COMMANDS[BOOK]
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            request, answer = _booking()
            admission = await ledger.admit(command, request, request.request_id, command.payload_hash(request))
            assert isinstance(admission, Send)
            await ledger.advance(admission.row, ledger.done(admission.row, answer))

    try:
        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(in_flight)))
        return count / (time.perf_counter() - started)
    finally:
        await store.close()


def _booking() -> tuple[appointment_pb2.BookAppointmentRequest, appointment_pb2.BookAppointmentResponse]:
    key = uuid.uuid4().hex
    request = appointment_pb2.BookAppointmentRequest(
        request_id=key, order_no=f"L{key[:20]}", patient_id=key, schedule_id=key, slot_id=key
    )
    appointment = common_pb2.Appointment(
        order_no=request.order_no,
        appointment_id=key,
        state=common_pb2.APPOINTMENT_STATE_BOOKED,
        patient_id=key,
        schedule_id=key,
        slot_id=key,
        queue_no=7,
        department_id="0301",
        department_name="心血管内科门诊",
        doctor_id="1042",
        total_fen=2500,
    )
    return request, appointment_pb2.BookAppointmentResponse(appointment=appointment)


def _raw_commits(path: Path, count: int) -> Callable[[], float]:
    def once() -> float:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("CREATE TABLE IF NOT EXISTS rows (id TEXT PRIMARY KEY, content BLOB NOT NULL)")
            content = os.urandom(_ROW_BYTES)
            started = time.perf_counter()
            for _ in range(count):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO rows VALUES (?, ?)", (uuid.uuid4().hex, content))
                connection.execute("COMMIT")
            return count / (time.perf_counter() - started)

    return once


def _fsyncs(path: Path, count: int) -> Callable[[], float]:
    """Append a page and fsync: what the disk itself gives."""

    def once() -> float:
        page = os.urandom(4096)
        with path.open("ab", buffering=0) as file:
            started = time.perf_counter()
            for _ in range(count):
                file.write(page)
                os.fsync(file.fileno())
            return count / (time.perf_counter() - started)

    return once
