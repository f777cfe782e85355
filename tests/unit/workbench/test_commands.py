"""``his160 mapping …`` from the outside: exit codes, two languages, JSON, and a sentence for every bad input."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.cli import run
from agent.commands.mapping import TOOLS
from his_db.registry import load_sample
from his_db.sample import SMALL, hospital_now

PACK = Path(__file__).resolve().parents[3] / "his_db" / "packs" / "zebone" / "mappings"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "his.db"
    load_sample("zebone").create(f"sqlite:///{path}", today=hospital_now().date(), size=SMALL)
    return path


@pytest.fixture
def place(sample: Path, tmp_path: Path) -> Path:
    """A folder with mappings, a database, and a configuration that names both."""
    shutil.copyfile(sample, tmp_path / "his.db")
    shutil.copytree(PACK, tmp_path / "mappings")
    (tmp_path / "config.toml").write_text(
        '[site]\ncode = "test"\n[source.his]\nengine = "sqlite"\ndatabase = "his.db"\n[mapping]\npath = "mappings"\n'
        '[server]\nenabled = true\ninsecure = true\n[delivery]\nsink = "pull"\n',
        encoding="utf-8",
    )
    return tmp_path


def mapping(place: Path, *arguments: str) -> int:
    tool, *rest = arguments
    return run(["mapping", tool, *rest, "--config", str(place / "config.toml")])


def as_json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_help_names_every_tool(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mapping", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in TOOLS)
    assert run(["mapping"]) == 2
    assert run(["mapping", "discovr"]) == 2


@pytest.mark.parametrize("name", list(TOOLS))
def test_every_tool_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mapping", name, "--help"]) == 0
    assert "usage" in capsys.readouterr().out


def test_check_offline_online_deep(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mapping(place, "check") == 0
    capsys.readouterr()
    assert mapping(place, "check", "--online", "--deep", "--format", "json") == 0
    found = as_json(capsys)
    assert found["errors"] == 0
    assert found["sources"][0]["engine"] == "sqlite"
    with closing(sqlite3.connect(place / "his.db")) as his:
        his.execute("ALTER TABLE BD_OU_EMPLOYEE RENAME COLUMN SPEC TO SPEC2")
    assert mapping(place, "check", "--online", "--lang", "zh") == 1
    shown = capsys.readouterr().out
    assert "catalog/list_doctors.toml" in shown
    assert "SPEC2" in shown
    assert mapping(place, "check", "--online", "--format", "sarif") == 1
    assert as_json(capsys)["runs"][0]["results"][0]["ruleId"] == "H503"


def test_check_of_broken_files_is_78_in_every_format(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "mappings" / "catalog" / "list_slots.toml").write_text('schema = 1\noperation = "X.Y"\nkind = "table"\n')
    for form in ("text", "json", "sarif"):
        assert mapping(place, "check", "--format", form) == 78
        shown = capsys.readouterr().out
        assert "H201" in shown
    assert mapping(place, "grants") == 78
    assert "H201" in capsys.readouterr().err


def test_preview_and_rehearse(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mapping(place, "preview", "CatalogService.ListDepartments", "--json") == 0
    found = as_json(capsys)
    assert found["status"] == {"code": "OK"}
    assert found["message"]["departments"]
    assert mapping(place, "preview", "AppointmentService.GetAppointment", "--request", '{"order_no": "x"}') == 1
    assert "NOT_FOUND APPOINTMENT_NOT_FOUND" in capsys.readouterr().out
    assert mapping(place, "rehearse", "AppointmentService.UnlockSlot", "--request", '{"order_no": "x"}', "--json") in (
        0,
        1,
    )
    assert as_json(capsys)["committed"] is False


def test_a_request_may_stand_in_a_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No shell of Windows leaves the quotes of a JSON alone; Notepad writes a byte order mark, or GBK."""
    text = '{"order_no": "无此单号"}'
    file = place / "请求.json"
    arguments = ("AppointmentService.GetAppointment", "--request", f"@{file}")
    for raw in (text.encode(), b"\xef\xbb\xbf" + text.replace(" ", "\r\n").encode()):
        file.write_bytes(raw)
        assert mapping(place, "preview", *arguments) == 1
        shown = capsys.readouterr().out
        assert "APPOINTMENT_NOT_FOUND" in shown
        assert "无此单号" in shown
    assert mapping(place, "rehearse", "AppointmentService.UnlockSlot", "--request", f"@{file}", "--json") in (0, 1)
    assert as_json(capsys)["committed"] is False
    file.write_bytes(text.encode("gbk"))
    assert mapping(place, "preview", *arguments) == 2
    said = capsys.readouterr().err
    assert "H102" in said
    assert "请求.json:1:15" in said
    assert "另存为" in said
    file.unlink()
    assert mapping(place, "preview", *arguments) == 2
    assert "请求.json" in capsys.readouterr().err


def test_rows_of_a_watch_may_stand_in_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "row.json").write_text("{}", encoding="utf-8")
    assert mapping(place, "preview", "watch:orders", "--before", f"@{place / 'none.json'}") == 2
    assert "none.json" in capsys.readouterr().err
    assert mapping(place, "preview", "watch:orders", "--after", f"@{place / 'row.json'}") == 1
    assert "field appointment_id" in capsys.readouterr().err  # the row of the file, which has no column


def test_personal_data_is_not_printed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(place / "his.db")) as his:
        key, *personal = his.execute(
            "SELECT PK_PI, NAME_PI, ID_NO, MOBILE, ADDRESS FROM PI_MASTER WHERE ID_NO <> '' AND MOBILE <> '' AND DEL_FLAG = '0'"
        ).fetchone()
    for form in ([], ["--json"]):
        request = json.dumps({"document_no": personal[1], "document_type": "01", "patient_id": key})
        assert mapping(place, "preview", "PatientService.FindPatients", "--request", request, *form) == 0
        shown = capsys.readouterr()
        for value in personal:
            assert value.strip() not in shown.out + shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("preview", "CatalogService.ListDoctor"),
        ("preview", "CatalogService.ListDoctors", "--request", "{"),
        ("preview", "CatalogService.ListDoctors", "--request", '{"nothing": 1}'),
        ("preview", "AppointmentService.LockSlot"),
        ("rehearse", "CatalogService.ListDoctors"),
        ("scaffold", "CatalogService.ListDoctors"),
        ("scaffold", "No.Such", "--table", "T"),
        ("discover", "--source", "lis"),
        ("check", "--format", "xml"),
        ("diff", "nothing"),
    ],
)
def test_bad_input_is_a_usage_error(
    place: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert mapping(place, *arguments) == 2
    assert capsys.readouterr().err


def test_without_a_configuration_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{place / 'his.db'}"
    assert run(["mapping", "check", "--source-url", url, "--mapping", "pack:zebone", "--deep"]) == 0
    assert run(["mapping", "check", "--source-url", url]) == 2
    assert run(["mapping", "check", "--source-url", "nothing://x", "--mapping", "pack:zebone"]) == 2
    assert run(["mapping", "check", "--source-url", url, "--mapping", "pack:none"]) == 78
    gone = f"sqlite:///{place / 'gone.db'}"
    assert run(["mapping", "check", "--source-url", gone, "--mapping", "pack:zebone", "--online"]) == 1
    assert run(["mapping", "discover", "--source-url", gone, "--mapping", "pack:zebone"]) == 1
    assert (
        run(["mapping", "publish", "--source-url", url, "--mapping", "pack:zebone", "--author", "a", "--note", "n"])
        == 2
    )
    capsys.readouterr()


def test_a_password_in_a_bad_url_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIS_URL", "nosuch://u:geheim@h/d")
    assert run(["mapping", "check", "--source-url", "@env:HIS_URL", "--mapping", "pack:zebone"]) == 2
    shown = capsys.readouterr()
    assert "geheim" not in shown.out + shown.err


def test_drift_of_one_table_degrades_its_operations(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mapping(place, "drift") == 1  # no lock yet
    assert mapping(place, "drift", "--update") == 0
    assert mapping(place, "drift") == 0
    with closing(sqlite3.connect(place / "his.db")) as his:
        his.execute("ALTER TABLE BD_OU_EMPLOYEE RENAME COLUMN SPEC TO SPEC2")
    capsys.readouterr()
    assert mapping(place, "drift", "--json") == 1
    assert as_json(capsys)["degraded"] == ["CatalogService.ListDoctors"]
    (place / "mappings" / "mappings.lock").write_text("{", encoding="utf-8")
    assert mapping(place, "drift") == 1


def test_discover_scaffold_and_the_file_that_is_there_already(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mapping(place, "discover", "--json", "--all") == 0
    assert as_json(capsys)["subjects"]["department"][0]["table"] == "BD_OU_DEPT"
    assert mapping(place, "discover", "--all") == 0
    assert "PI_MASTER".lower() in capsys.readouterr().out
    arguments = ("scaffold", "CatalogService.ListDepartments", "--table", "BD_OU_DEPT")
    assert mapping(place, *arguments) == 1  # the pack has one
    (place / "mappings" / "catalog" / "list_departments.toml").unlink()
    assert mapping(place, *arguments) == 0
    assert mapping(place, "check", "--deep") == 0
    assert mapping(place, "scaffold", "CatalogService.ListSlots", "--table", "NO_SUCH", "--stdout") == 1


def test_impact_grants_schema_fields_and_tests(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mapping(place, "impact", "--json") == 0
    assert as_json(capsys)["sources"][0]["engine"] == "sqlite"
    assert mapping(place, "impact") == 0
    assert mapping(place, "grants", "--out", str(tmp_path / "grants.sql")) == 0
    assert mapping(place, "grants", "--out", str(tmp_path / "no" / "such" / "x.sql")) == 1
    assert mapping(place, "test") == 0
    out = tmp_path / "schema.json"
    assert run(["mapping", "schema", "--write", str(out)]) == 0
    assert run(["mapping", "schema", "--check", str(out)]) == 0
    out.write_text("{}", encoding="utf-8")
    assert run(["mapping", "schema", "--check", str(out)]) == 1
    assert run(["mapping", "fields", "--check", str(tmp_path / "none.md")]) == 1
    capsys.readouterr()


def test_publish_diff_rollback_history(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    who = ("--author", "张工", "--note", "首次")
    assert mapping(place, "publish", *who) == 0
    assert mapping(place, "publish", *who) == 1
    assert mapping(place, "diff") == 0
    with (place / "mappings" / "codes" / "sex.toml").open("a", encoding="utf-8") as file:
        file.write("# 改\n")
    assert mapping(place, "diff") == 1
    assert mapping(place, "publish", *who, "--require-approval") == 0
    assert mapping(place, "publish", *who, "--approve") == 1
    assert mapping(place, "publish", "--author", "李工", "--note", "同意", "--approve") == 0
    assert mapping(place, "rollback", "--author", "李工", "--note", "回退") == 0
    capsys.readouterr()
    assert mapping(place, "history", "--json") == 0
    found = as_json(capsys)
    assert [entry["action"] for entry in found["entries"]] == ["publish", "submit", "publish", "rollback"]
    assert found["live"] == found["entries"][0]["revision"]
    assert mapping(place, "history") == 0


def test_what_was_published_can_be_looked_at_and_every_tool_says_at_what_it_looked(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = (place / "config.toml").read_text("utf-8")
    (place / "config.toml").write_text(config.replace("[mapping]\n", '[mapping]\nuse = "published"\n'), "utf-8")
    assert mapping(place, "check", "--published") == 2  # nothing is published yet
    assert "publish" in capsys.readouterr().err
    assert mapping(place, "drift", "--update") == 0
    assert mapping(place, "publish", "--author", "张工", "--note", "首次") == 0
    with (place / "mappings" / "catalog" / "list_doctors.toml").open("a", encoding="utf-8") as file:
        file.write('unknown = "x"\n')
    capsys.readouterr()
    assert mapping(place, "check", "--format", "json") == 78
    about = as_json(capsys)["mappings"]
    folder, published = about["folder"], about["published"]
    assert (about["looked_at"], about["revision"], about["running"]) == ("folder", folder, "")
    assert folder != published
    assert mapping(place, "check") == 78
    shown = capsys.readouterr().out
    assert f"*文件夹 folder {folder}，正式 published {published}，运行 running -" in shown
    assert "加 --published 查看" in shown

    tools = {
        "check": ("check", "--published", "--online", "--format", "json"),
        "test": ("test", "--published", "--json"),
        "drift": ("drift", "--published", "--json"),
        "impact": ("impact", "--published", "--json"),
        "preview": ("preview", "CatalogService.ListDoctors", "--published", "--json"),
        "rehearse": ("rehearse", "AppointmentService.UnlockSlot", "--published", published, "--json"),
    }
    for tool, arguments in tools.items():
        assert mapping(place, *arguments) in (0, 1), tool
        about = as_json(capsys)["mappings"]
        assert (about["looked_at"], about["revision"], about["folder"]) == ("published", published, folder), tool
    for arguments in (("check", "--published"), ("test", "--published"), ("drift", "--published")):
        assert mapping(place, *arguments) == 0
        assert f"*正式 published {published}" in capsys.readouterr().out
    assert mapping(place, "grants", "--published") == 0
    assert capsys.readouterr().out.startswith(f"-- 映射 mappings: 文件夹 folder {folder}，*正式 published {published}")
    assert mapping(place, "drift", "--published", "--update") == 2
    assert mapping(place, "check", "--published", "0123456789abcdef") == 2
    assert "0123456789abcdef" in capsys.readouterr().err
    assert run(["mapping", "check", "--source-url", "sqlite:///x", "--mapping", "pack:zebone", "--published"]) == 2
