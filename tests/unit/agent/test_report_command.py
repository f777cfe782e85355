"""Reports of a real hospital in a real agent and on the command line."""

from __future__ import annotations

import asyncio
import csv
import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import openpyxl
import pytest
from google.type import date_pb2
from his160.v1 import agent_pb2, appointment_pb2, common_pb2, report_pb2, report_pb2_grpc

from agent import cli
from agent.config import load_settings
from agent.daemon import Daemon
from his_db.registry import SAMPLES, load
from his_db.sample import SMALL, hospital_now
from sync.clock import utc_now
from sync.report_book import RunState
from sync.store import CommandRow, CommandState, open_store
from tests.bounds import PATIENCE

CONFIG = """\
site = { code = "440305001", name = "样例医院", instance = "agent-1" }
mapping.path = "pack:zebone"
source.his = { engine = "sqlite", database = "his.db" }
server = { enabled = true, insecure = true, listen = "127.0.0.1:0" }
delivery.sink = "pull"
watch.enabled = false
"""
YESTERDAY = hospital_now().date() - timedelta(days=1)
ALL = ["D2", "R1", "R2", "R3", "R4", "R8", "R9"]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("his") / "his.db"
    load(SAMPLES["zebone"])().create(f"sqlite:///{file}", today=hospital_now().date(), size=SMALL)
    return file


@pytest.fixture
def config(tmp_path: Path, hospital: Path) -> Path:
    (tmp_path / "his.db").write_bytes(hospital.read_bytes())
    file = tmp_path / "config.toml"
    file.write_text(CONFIG, encoding="utf-8")
    return file


def his160(config: Path, *arguments: str) -> int:
    return cli.run(["report", *arguments, "--config", str(config)])


def test_run_show_list_export(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = config.parent / "out"
    assert his160(config, "run", "R1", "--format", "xlsx", "--format", "csv", "--to", str(folder), "--json") == 0
    run: Any = json.loads(capsys.readouterr().out)
    assert (run["state"], run["first_day"], run["origin"]) == ("DONE", YESTERDAY.isoformat(), "PERSON")
    assert [Path(path).name for path in run["files"]] == [f"R1_{YESTERDAY}.xlsx", f"R1_{YESTERDAY}.csv"]
    with (folder / f"R1_{YESTERDAY}.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0][:4] == ["日期", "院区", "渠道", "科室代码"]
    assert len(lines) - 1 == run["rows"] > 0
    sheet = openpyxl.load_workbook(folder / f"R1_{YESTERDAY}.xlsx").active
    assert "样例医院" in sheet["A2"].value  # type: ignore[operator,union-attr,index]
    assert his160(config, "show", "R1", "--rows", "1") == 0
    shown = capsys.readouterr().out
    assert run["run_id"] in shown
    assert run["input_hash"] in shown
    assert his160(config, "list", "--json") == 0
    listed: Any = json.loads(capsys.readouterr().out)
    assert [report["name"] for report in listed["reports"]] == ALL
    assert [each["run_id"] for each in listed["runs"]] == [run["run_id"]]
    assert his160(config, "export", run["run_id"]) == 0
    assert (config.parent / "state" / "reports" / f"R1_{YESTERDAY}.xlsx").exists()


def test_what_cannot_be_done_says_so(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert his160(config, "show", "R1") == 1
    assert his160(config, "run", "R99") == 1
    assert "R99" in capsys.readouterr().err
    assert his160(config, "show", "R1") == 1
    assert his160(config, "run", "R1", "--from", "2026-03-02", "--until", "2026-03-01") == 2


def test_a_month(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert his160(config, "run", "R3", "--month", f"{YESTERDAY:%Y-%m}", "--json") == 0
    run: Any = json.loads(capsys.readouterr().out)
    assert (run["first_day"], run["rows"] > 0) == (f"{YESTERDAY:%Y-%m}-01", True)
    assert run["files"][0].endswith(f"R3_{YESTERDAY:%Y-%m}.xlsx")


def test_verify_tells_whether_the_his_says_the_same(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert his160(config, "verify", "R1") == 1
    assert his160(config, "run", "R1") == 0
    assert his160(config, "verify", "R1") == 0
    assert "结果一致" in capsys.readouterr().out
    with closing(sqlite3.connect(config.parent / "his.db")) as connection, connection:
        connection.execute("UPDATE BL_SETTLE SET AMOUNT_ST = AMOUNT_ST + 1 WHERE DT_STTYPE = '00'")
    assert his160(config, "verify", "R1") == 1
    assert "与当时不同" in capsys.readouterr().out


def test_the_work_list_until_it_is_signed_off_or_put_right(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    booked = common_pb2.Appointment(order_no="T404", state=common_pb2.APPOINTMENT_STATE_PAID, paid_fen=2500)

    async def told(appointment: common_pb2.Appointment) -> None:
        now = utc_now() - timedelta(days=1)
        answer = appointment_pb2.BookAppointmentResponse(appointment=appointment).SerializeToString()
        row = CommandRow(
            "r1", "AppointmentService.BookAppointment", b"p", b"e", "T404", "order_no:T404", CommandState.DONE, now, now,
            result=answer, finished_time=now,
        )  # fmt: skip
        store = open_store(config.parent / "state" / "his160.db", utc_now, exclusive=False)
        await store.write(lambda work: work.commands.put(row))
        await store.close()

    assert his160(config, "work") == 0
    asyncio.run(told(booked))
    capsys.readouterr()
    assert his160(config, "work") == 1
    text = capsys.readouterr().out
    assert "T404  160有HIS无  差 -25.00 元" in text
    assert "his160 ledger show" in text
    assert his160(config, "work", "--sign", "T405") == 1
    assert his160(config, "work", "--sign", "T404", "--note", "已原路退回") == 0
    assert his160(config, "work") == 0
    capsys.readouterr()
    assert his160(config, "work", "--all", "--json") == 0
    (item,) = json.loads(capsys.readouterr().out)
    assert (item["findings"], item["difference_fen"], bool(item["signed_by"])) == (["MISSING"], -2500, True)
    booked.paid_fen = 3000
    asyncio.run(told(booked))
    assert his160(config, "work") == 1, "another finding is open again"


async def test_the_agent_runs_what_is_due_and_answers_readers(config: Path) -> None:
    now = utc_now().replace(hour=5, minute=0)  # 13:00 in the hospital: no quiet hours
    daemon = Daemon(load_settings(config, {}), clock=lambda: now)
    ready = await daemon.start()
    try:
        await daemon._reports._tick()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{ready.port}") as channel:
            stub: Any = report_pb2_grpc.ReportServiceStub(channel)
            listed = await stub.ListReports(report_pb2.ListReportsRequest())
            assert [report.name for report in listed.reports] == ALL
            day = (now + timedelta(hours=8)).date() - timedelta(days=1)
            asked = date_pb2.Date(year=day.year, month=day.month, day=day.day)
            pages = [
                page
                async for page in stub.ReadReport(
                    report_pb2.ReadReportRequest(name="R1", from_date=asked, to_date=asked)
                )
            ]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                request = report_pb2.ReadReportRequest(name="R99", from_date=asked, to_date=asked)
                await stub.ReadReport(request).read()
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        snapshot = await daemon.board.snapshot()
        states = {part.name: part.detail for part in snapshot.components if part.name.startswith("report:")}
    finally:
        await daemon.stop()
    assert sorted(states) == [f"report:{name}" for name in ALL]
    daily = [name for name in ALL if name != "R3"]
    files = sorted(path.name for path in (config.parent / "state" / "reports").iterdir())
    assert [name for name in files if not name.startswith("R3")] == [f"{name}_{day}.xlsx" for name in daily]
    store = open_store(config.parent / "state" / "his160.db", utc_now, exclusive=False)
    runs = await store.read(lambda work: work.reports.listed("R1", 10))
    await store.close()
    assert [(row.slot, row.checksum) for row in runs] == [(f"R1/{day}", pages[-1].checksum)]


async def test_a_file_that_cannot_be_written_is_told_and_the_rows_are_kept(config: Path) -> None:
    (config.parent / "taken").write_text("", encoding="utf-8")
    config.write_text(f'{CONFIG}report = {{ folder = "taken/reports", files = ["csv"] }}\n', encoding="utf-8")
    now = utc_now().replace(hour=5, minute=0)
    daemon = Daemon(load_settings(config, {}), clock=lambda: now)
    await daemon.start()
    try:
        await daemon._reports._tick()
        snapshot = await daemon.board.snapshot()
    finally:
        await daemon.stop()
    states = {part.name: part.health for part in snapshot.components if part.name.startswith("report")}
    assert states.pop("report-files") == agent_pb2.HEALTH_DEGRADED
    assert set(states.values()) == {agent_pb2.HEALTH_OK}
    assert len(states) == len(ALL)


async def test_a_stop_in_the_middle_leaves_the_run_to_the_next_start(config: Path) -> None:
    now = utc_now().replace(hour=5, minute=0)
    daemon = Daemon(load_settings(config, {}), clock=lambda: now)
    await daemon.start()
    gate, begun, source = asyncio.Event(), asyncio.Event(), daemon._reports._runs._source
    read = source.read

    async def held(report: Any, *arguments: Any, **more: Any) -> Any:
        if report.name == "R2":
            begun.set()
            await gate.wait()
        return await read(report, *arguments, **more)

    source.read = held  # type: ignore[method-assign]
    ticking = asyncio.ensure_future(daemon._reports._tick())
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
    await daemon.stop()
    await ticking
    store = open_store(config.parent / "state" / "his160.db", utc_now, exclusive=False)
    states = {row.report: row.state for row in await store.read(lambda work: work.reports.listed("", 10))}
    await store.close()
    assert states == {"D2": RunState.DONE, "R1": RunState.DONE, "R2": RunState.RUNNING}
    again = Daemon(load_settings(config, {}), clock=lambda: now)
    await again.start()
    try:
        await again._reports._tick()
        rows = {row.report: row for row in again._reports._last.values()}
        assert sorted(rows) == ALL
        assert (rows["R2"].state, rows["R2"].attempt, rows["R1"].attempt) == (RunState.DONE, 2, 1)
    finally:
        await again.stop()
