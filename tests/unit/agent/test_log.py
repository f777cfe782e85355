"""Logs hold no personal data, no texts of exceptions, and one line a record."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from his160.v1 import appointment_pb2, catalog_pb2, common_pb2, event_pb2, patient_pb2, payment_pb2, report_pb2

from agent.config import LogSettings
from agent.log import JsonFormatter, PlainFormatter, frames, redact, setup_logging
from agent.log_file import RotatedFile
from sync.audit import masked
from sync.redaction import for_showing, without_personal

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


def test_somebodys_own_words_are_redacted_where_people_look() -> None:
    """A reason typed at a window names whom it likes; it is kept for the HIS and shown to nobody unasked."""
    request = appointment_pb2.CancelAppointmentRequest(order_no="o1", note=f"{NAME} 家里有事")
    assert redact(request) == '{order_no: "o1", note: [redacted]}'
    assert for_showing(request) == appointment_pb2.CancelAppointmentRequest(order_no="o1", note="***(8)")
    assert without_personal(request) == request
    assert json.loads(masked(request)) == {"order_no": "o1", "note": "***(8)"}
    event = event_pb2.Event(event_id="e1")
    event.appointment_after.note = event.appointment_after.patient_name = NAME
    event.appointment_after.order_no = "o1"
    assert NAME not in str(for_showing(event))


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


def test_a_log_that_is_held_open_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where a file cannot be renamed while a person has it open; here no rename at all is allowed."""
    now = [0.0]
    file = tmp_path / "his160.log"
    handler = RotatedFile(file, max_bytes=200, backups=3, clock=lambda: now[0])
    log = logging.Logger("test")
    log.addHandler(handler)
    moved, refused = os.replace, {file}
    tries: list[str] = []

    def replace(source: str | Path, target: str | Path) -> None:
        tries.append(Path(source).name)
        if Path(source) in refused:
            raise PermissionError(32, "in use")
        moved(source, target)

    def write(count: int) -> None:
        for _ in range(count):
            log.error("record %03d %s", next(numbers), "x" * 40)

    def kept() -> list[int]:
        parts = [file, *(file.with_name(f"{file.name}.{n}") for n in range(1, 4))]
        lines = [line for part in reversed(parts) if part.exists() for line in part.read_text("utf-8").splitlines()]
        return [int(line.split()[1]) for line in lines]

    monkeypatch.setattr(os, "replace", replace)
    numbers = iter(range(1000))
    write(12)
    assert kept() == list(range(12))
    assert tries == ["his160.log"]  # it waits before it asks again
    refused.clear()
    now[0] += 61
    write(2)  # the long part becomes .1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["his160.log", "his160.log.1"]
    assert kept() == list(range(14))
    write(6)
    assert (tmp_path / "his160.log.3").exists()
    # An older part is held: only the oldest of all is lost, however often it is tried.
    refused = {tmp_path / "his160.log.1"}
    before = kept()
    for _ in range(5):
        now[0] += 61
        write(4)
    assert kept()[-20:] == list(range(20, 40))
    assert set(before) - set(kept()) == set(range(12))  # what his160.log.3 held
    refused.clear()
    now[0] += 61
    write(1)
    assert kept() == list(range(12, 41))
    handler.close()


def test_setup_replaces_what_was_there(tmp_path: Path) -> None:
    setup_logging(LogSettings(file=tmp_path / "a.log"))
    setup_logging(LogSettings(file=tmp_path / "b.log", level="error"))
    assert len(logging.getLogger().handlers) == 1
    logging.getLogger("x").info("not seen")
    assert (tmp_path / "b.log").read_text(encoding="utf-8") == ""
