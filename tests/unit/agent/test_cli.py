"""The command line: exit codes, both languages, nothing imported that is not asked for."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from google.type.date_pb2 import Date
from google.type.timeofday_pb2 import TimeOfDay
from his160.v1 import catalog_pb2, common_pb2, desk_pb2, event_pb2, payment_pb2

from agent import cli
from agent.commands.registry import COMMANDS, Entry, load
from agent.contract_json import ContractJsonError, from_json, to_json
from agent.version import VERSION
from sync.clock import utc_now
from sync.outbox import Outbox
from sync.store import open_store

ROOT = Path(__file__).resolve().parents[3]
CONFIG = """\
site.code = "1"
mapping.path = "mappings"
source.his = { engine = "sqlite", database = "his.db" }
server = { enabled = true, insecure = true }
delivery.sink = "pull"
"""


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == VERSION
    assert project["scripts"]["his160"] == "agent.__main__:main"


def test_help_names_every_command_in_both_languages(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert name in shown
        assert entry.help_zh in shown
        assert entry.help in shown
    assert cli.run([]) == 2


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"demo", "sandbox"}))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([name, "--help"]) == 0
    assert "usage" in capsys.readouterr().out
    assert callable(load(name))


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["version", "--loud"],
        ["call"],
        ["call", "X.Y", "--target", "localhost:1", "--insecure"],
        ["call", "AgentService.GetInfo"],
        ["call", "AgentService.GetInfo", "--target", "localhost:1"],
        ["call", "AgentService.GetInfo", "--target", "localhost", "--insecure"],
        ["call", "AgentService.GetInfo", "--target", "10.0.0.1:1", "--insecure"],
        ["call", "AgentService.GetInfo", "{", "--target", "localhost:1", "--insecure"],
        ["call", "AgentService.GetInfo", '{"no": 1}', "--target", "localhost:1", "--insecure"],
        ["outbox"],
        ["outbox", "retry"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    assert capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"his160 {VERSION} ")


def test_nobody_there_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--target", "127.0.0.1:1", "--insecure", "--timeout", "2"]
    assert cli.run(["status", *options]) == 1
    assert cli.run(["call", "AgentService.GetInfo", *options]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().err


def test_certificates_that_are_not_there_are_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["status", "--target", "127.0.0.1:1", "--certs", str(tmp_path)]) == 1
    assert "ca.pem" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a": ' * 100_000,
        '{"page_size": ' + "9" * 5000 + "}",
        '{"page_size": 1e400}',
        '{"from_date": {"year": 1e99}}',
        '{"department_id": "\\ud800"}',
        '{"period": "\\ud800"}',
        '{"\\ud800": 1}',
        '{"from_date": [1]}',
        "null",
        "",
    ],
    ids=lambda text: text[:30],
)
def test_json_that_does_not_fit_is_said(text: str) -> None:
    with pytest.raises(ContractJsonError) as caught:
        from_json(text, catalog_pb2.ListSchedulesRequest)
    assert str(caught.value).encode()  # it can be printed


def test_the_request_of_a_call_may_stand_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As for `mapping preview`: what is read, and what is said of GBK and of a file that is not there."""
    file = tmp_path / "请求.json"
    arguments = ["call", "CatalogService.ListSlots", f"@{file}", "--target", "127.0.0.1:1", "--insecure"]
    text = '{"schedule_id": "排班"}'
    for raw in (text.encode(), b"\xef\xbb\xbf" + text.encode()):
        file.write_bytes(raw)
        assert cli.run(arguments) == 1  # it was read, and nobody is there
        assert "UNAVAILABLE" in capsys.readouterr().err
    file.write_bytes(text.replace("schedule_id", "schedule").encode())
    assert cli.run(arguments) == 2
    assert "ListSlotsRequest" in capsys.readouterr().err
    file.write_bytes(text.encode("gbk"))
    assert cli.run(arguments) == 2
    assert "H102" in capsys.readouterr().err
    file.unlink()
    assert cli.run(arguments) == 2
    assert "请求.json" in capsys.readouterr().err


def test_a_bad_configuration_is_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[site]\n", encoding="utf-8")
    for name in ("check", "run"):
        assert cli.run([name, "--config", str(file)]) == 78
        said = capsys.readouterr().err
        assert f"{file}:1:" in said
        assert "修复" in said
        assert "fix" in said
    assert cli.run(["check", "--config", str(tmp_path / "none.toml")]) == 78


def test_a_bad_mapping_is_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings" / "x.toml").write_text('schema = 1\noperation = "No.Such"\n', encoding="utf-8")
    assert cli.run(["check", "--config", str(tmp_path / "config.toml")]) == 78
    assert "x.toml:" in capsys.readouterr().err


def test_a_mapping_folder_without_an_operation_is_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG, encoding="utf-8")
    (tmp_path / "mappings").mkdir()
    assert cli.run(["check", "--config", str(config)]) == 78
    assert "没有任何操作的映射" in capsys.readouterr().err
    assert cli.run(["mapping", "check", "--config", str(config)]) == 78
    assert "mappings:1:1: error H241" in capsys.readouterr().out


def test_a_defect_is_1_and_tells_no_values(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "COMMANDS", {"boom": Entry("x:y", "", "")})
    monkeypatch.setattr(cli, "load", lambda name: fails)
    assert cli.run(["boom"]) == 1
    said = capsys.readouterr().err
    assert "ValueError" in said
    assert "张三" not in said


def fails(arguments: object) -> int:
    raise ValueError("张三")


def test_only_the_chosen_command_is_imported() -> None:
    """``his160 version`` loads neither drivers nor gRPC: a person waits for it."""
    program = (
        "import sys; from agent.cli import run; run(['version']);"
        "print(sorted({'grpc', 'sqlalchemy', 'apscheduler', 'psycopg', 'oracledb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_output_is_utf8_whatever_the_locale() -> None:
    environ = {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'proto/gen'}",
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
    }
    done = subprocess.run([sys.executable, "-m", "agent", "--help"], capture_output=True, env=environ, check=True)
    assert "运行代理" in done.stdout.decode("utf-8")


async def test_the_outbox_can_be_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import asyncio

    config = tmp_path / "config.toml"
    config.write_text(CONFIG, encoding="utf-8")
    arguments = ["--config", str(config)]
    assert await asyncio.to_thread(cli.run, ["outbox", "list", *arguments]) == 1  # the agent has not run yet
    (tmp_path / "state").mkdir()
    store = open_store(tmp_path / "state" / "his160.db", utc_now)
    outbox = Outbox(store, utc_now)
    event = event_pb2.Event(event_id="e" * 32, kind=event_pb2.EVENT_KIND_PAID, order_no="o1")
    event.appointment_after.patient_name = "张三"
    await outbox.append([event])
    await outbox.settle([], [(event.event_id, "refused")], [])
    capsys.readouterr()
    assert await asyncio.to_thread(cli.run, ["outbox", "list", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "e" * 32 in shown
    assert "PAID" in shown
    assert "o1" in shown
    assert "张三" not in shown
    assert await asyncio.to_thread(cli.run, ["outbox", "retry", "nothing", *arguments]) == 1
    assert await asyncio.to_thread(cli.run, ["outbox", "retry", "--all", *arguments]) == 0
    assert len(await outbox.pending(10)) == 1
    await store.close()


def test_short_forms_of_json() -> None:
    request = from_json(
        '{"from_date": "2026-11-23", "to_date": {"year": 2026, "month": 12, "day": 1}}',
        catalog_pb2.ListSchedulesRequest,
    )
    assert request == catalog_pb2.ListSchedulesRequest(
        from_date=Date(year=2026, month=11, day=23), to_date=Date(year=2026, month=12, day=1)
    )
    slot = from_json('{"begin_time": "08:30", "end_time": "9:00:05", "state": "FREE"}', catalog_pb2.Slot)
    assert slot == catalog_pb2.Slot(
        begin_time=TimeOfDay(hours=8, minutes=30),
        end_time=TimeOfDay(hours=9, seconds=5),
        state=catalog_pb2.Slot(state=common_pb2.SLOT_STATE_FREE).state,
    )
    nested = from_json('{"slots": [{"state": "SLOT_STATE_TAKEN"}]}', catalog_pb2.ListSlotsResponse)
    assert nested == catalog_pb2.ListSlotsResponse(slots=[catalog_pb2.Slot(state=common_pb2.SLOT_STATE_TAKEN)])
    paid = from_json('{"pay_parameters": {"state": "FREE"}}', payment_pb2.CreatePaymentResponse)
    assert paid == payment_pb2.CreatePaymentResponse(pay_parameters={"state": "FREE"})


@pytest.mark.parametrize("text", ["[]", "{", '{"from_date": "tomorrow"}', '{"nothing": 1}', '{"page_size": "x"}'])
def test_json_that_does_not_fit(text: str) -> None:
    with pytest.raises(ContractJsonError):
        from_json(text, catalog_pb2.ListSchedulesRequest)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"note": "张三', "line 1 column 10: Unterminated string starting at"),
        ('{"order_no": ["张三"]}', "field order_no"),
        ('{"张三": 1}', "a field that is not there; there are request_id, order_no"),
        ('{"张三": 1, "order_no": 5}', ""),
        ('["张三"]', "an object"),
    ],
)
def test_where_json_does_not_fit_is_told_without_what_it_says(text: str, place: str) -> None:
    with pytest.raises(ContractJsonError) as caught:
        from_json(text, desk_pb2.CancelOnSiteRequest)
    assert caught.value.place.startswith(place)
    assert "张三" not in caught.value.place


def test_an_enum_that_is_not_there_is_not_repeated() -> None:
    with pytest.raises(ContractJsonError) as caught:
        from_json('{"slots": [{"state": "张三"}]}', catalog_pb2.ListSlotsResponse)
    assert "张三" in str(caught.value)  # for whoever wrote it
    assert caught.value.place == "field slots.state"


def test_json_keeps_the_names_of_the_contract() -> None:
    answer = catalog_pb2.ListSlotsResponse(slots=[catalog_pb2.Slot(slot_id="号1")], next_page_token="t")
    assert json.loads(to_json(answer)) == {"slots": [{"slot_id": "号1"}], "next_page_token": "t"}
    assert "号1" in to_json(answer)
    assert "\n" not in to_json(answer, lines=True)
