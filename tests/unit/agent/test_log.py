"""Logs hold no personal data, no texts of exceptions, and one line a record."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from his160.v1 import catalog_pb2, common_pb2, event_pb2, patient_pb2, payment_pb2, report_pb2

from agent.config import LogSettings
from agent.log import JsonFormatter, PlainFormatter, frames, redact, setup_logging

NAME = "张三丰"


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    root = logging.getLogger()
    before, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    yield
    for handler in root.handlers:
        if handler not in before:
            handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.raiseExceptions = raising
    logging.captureWarnings(False)


def test_personal_fields_are_redacted_at_every_depth() -> None:
    patient = patient_pb2.Patient(patient_id="p1", name=NAME, document_no=NAME, mobile=NAME, address=NAME, sex=NAME)
    patient.birthday.year = 1949
    shown = redact(patient_pb2.EnsurePatientResponse(patient=patient, created=True))
    assert NAME not in shown
    assert "1949" not in shown
    assert 'patient_id: "p1"' in shown
    assert "created: true" in shown
    event = event_pb2.Event(event_id="e1", kind=event_pb2.EVENT_KIND_PAID)
    event.appointment_after.patient_name = NAME
    event.appointment_after.state = common_pb2.APPOINTMENT_STATE_PAID
    shown = redact(event_pb2.ReadEventsResponse(events=[event]))
    assert NAME not in shown
    assert "EVENT_KIND_PAID" in shown
    assert "APPOINTMENT_STATE_PAID" in shown


def test_maps_bytes_and_rows_are_redacted() -> None:
    assert "secret" not in redact(payment_pb2.CreatePaymentResponse(pay_parameters={"paySign": "secret"}))
    row = report_pb2.ReportRow(values=[report_pb2.ReportValue(text=NAME), report_pb2.ReportValue(number=7)])
    shown = redact(report_pb2.ReadReportResponse(rows=[row], checksum=b"abc"))
    assert NAME not in shown
    assert "number: 7" in shown
    assert "<3 bytes>" in shown


def test_unknown_enum_numbers_do_no_harm() -> None:
    slot = catalog_pb2.Slot(slot_id="a\nb")
    slot.state = 99  # type: ignore[assignment]
    assert redact(slot) == '{slot_id: "a\\nb", state: 99}'


def failing() -> Exception:
    try:
        try:
            raise ValueError(f"cannot read {NAME}")
        except ValueError as error:
            raise RuntimeError(f"row of {NAME}") from error
    except RuntimeError as error:
        return error


def test_a_trace_has_no_texts() -> None:
    shown = frames(failing())
    assert NAME not in shown
    assert "builtins.RuntimeError at test_log.py" in shown
    assert "<- builtins.ValueError at test_log.py" in shown
    looped = ValueError()
    looped.__cause__ = looped
    assert frames(looped) == "builtins.ValueError at ?"


@pytest.mark.parametrize("formatter", [PlainFormatter(), JsonFormatter()])
def test_records(formatter: logging.Formatter) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    log = logging.Logger("test")
    log.addHandler(handler)
    log.error("line one\nline two %s", "预约", exc_info=failing(), extra={"attempt": 2, "state": "DONE"})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert NAME not in lines[0]
    assert "RuntimeError" in lines[0]
    if isinstance(formatter, JsonFormatter):
        entry = json.loads(lines[0])
        assert entry["message"] == "line one\\nline two 预约"
        assert (entry["level"], entry["attempt"], entry["state"]) == ("error", 2, "DONE")
        assert entry["time"][-6] in "+-"
    else:
        assert "attempt=2" in lines[0]


def test_the_file_is_rotated(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "his160.log"
    setup_logging(LogSettings(level="debug", format="json", file=file, max_bytes=2000, backups=2))
    for number in range(60):
        logging.getLogger("x").debug("record %d 预约", number)
    logging.getLogger("apscheduler").info("chatter")
    logging.getLogger().handlers[0].flush()
    names = sorted(path.name for path in file.parent.iterdir())
    assert names == ["his160.log", "his160.log.1", "his160.log.2"]
    last = file.read_text(encoding="utf-8").splitlines()[-1]
    assert json.loads(last)["message"] == "record 59 预约"


def test_setup_replaces_what_was_there(tmp_path: Path) -> None:
    setup_logging(LogSettings(file=tmp_path / "a.log"))
    setup_logging(LogSettings(file=tmp_path / "b.log", level="error"))
    assert len(logging.getLogger().handlers) == 1
    logging.getLogger("x").info("not seen")
    assert (tmp_path / "b.log").read_text(encoding="utf-8") == ""
