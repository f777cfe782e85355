"""A watch tried out on the sample HIS: what it reads, what it cannot read, which events the changes of a window make."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.cli import run
from his_db.registry import load_sample
from his_db.sample import SMALL, hospital_now
from his_db.source import settings_from_url
from his_db.workbench.site import Site
from sync.watch_trial import WatchChange, watch_trial

PACK = Path(__file__).resolve().parents[2] / "his_db" / "packs" / "zebone" / "mappings"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zebone") / "his.db"
    load_sample("zebone").create(f"sqlite:///{path}", today=hospital_now().date(), size=SMALL)
    return path


@pytest.fixture
def site(sample: Path, tmp_path: Path) -> Site:
    shutil.copyfile(sample, tmp_path / "his.db")
    shutil.copytree(PACK, tmp_path / "mappings")
    return Site(tmp_path / "mappings", {"his": settings_from_url("his", f"sqlite:///{tmp_path / 'his.db'}")})


def database(site: Site) -> str:
    return site.sources["his"].database


def change(site: Site, sql: str, *values: Any) -> int:
    with closing(sqlite3.connect(database(site))) as his:
        count = his.execute(sql, values).rowcount
        his.commit()
    return count


def one(site: Site, sql: str) -> tuple[Any, ...]:
    with closing(sqlite3.connect(database(site))) as his:
        return tuple(his.execute(sql).fetchone())


def preview(site: Site, *arguments: str) -> int:
    source = f"sqlite:///{database(site)}"
    return run(["mapping", "preview", *arguments, "--source-url", source, "--mapping", str(site.folder)])


def booked(site: Site) -> tuple[str, str]:
    """Appointment and order number of an order that is booked and not paid."""
    found = one(
        site,
        "SELECT PK_SCHAPPT, ORDERID_EXT FROM SCH_APPT WHERE EU_STATUS = '0' AND FLAG_PAY = '0' AND DEL_FLAG = '0'"
        " AND DT_APPTYPE = '2520' AND ORDERID_EXT IS NOT NULL AND PK_SCH IN (SELECT PK_SCH FROM SCH_SCH"
        f" WHERE FLAG_STOP = '0' AND DATE_WORK > '{hospital_now():%Y-%m-%d}')",
    )
    return str(found[0]), str(found[1])


async def between(site: Site, *statements: tuple[str, *tuple[Any, ...]]) -> tuple[WatchChange, ...]:
    """What two polls see with the statements between them."""
    async with watch_trial(site, site.load(), "orders") as trial:
        assert await trial.poll() == ()
        for sql, *values in statements:
            assert change(site, sql, *values) > 0, sql
        return await trial.poll()


async def test_a_cancellation_at_the_window_and_the_rule_that_sees_it(site: Site) -> None:
    appointment, order = booked(site)
    cashier = one(site, "SELECT PK_EMP FROM BD_OU_EMPLOYEE WHERE CODE_EMP = '0931'")[0]
    (found,) = await between(
        site,
        (
            "UPDATE SCH_APPT SET EU_STATUS = '9', PK_EMP_CANCEL = ?, DATE_CANCEL = '2026-03-02 09:30:00'"
            " WHERE PK_SCHAPPT = ?",
            cashier,
            appointment,
        ),
    )
    assert (found.key, found.what, found.event, found.rule) == (appointment, "changed", "CANCELLED", 1)
    assert found.fields["state"] == ("APPOINTMENT_STATE_BOOKED", "APPOINTMENT_STATE_CANCELLED")
    assert found.fields["operator_id"][1] == "0931"
    assert found.occurred == "2026-03-02 09:30:00+08:00"
    assert found.note.en == "160 is told"
    assert order


async def test_the_platforms_own_operator_and_changes_that_no_rule_wants(site: Site) -> None:
    appointment, _ = booked(site)
    own = one(site, "SELECT PK_EMP FROM BD_OU_EMPLOYEE WHERE CODE_EMP = 'jk160'")[0]
    update = "UPDATE SCH_APPT SET EU_STATUS = '9', PK_EMP_CANCEL = ?, DATE_CANCEL = '2026-03-02 09:30:00'"
    (found,) = await between(
        site,
        (f"{update} WHERE PK_SCHAPPT = ?", own, appointment),
    )
    assert found.event == "CANCELLED"
    other, _ = booked(site)
    (found,) = await between(site, ("UPDATE SCH_APPT SET NOTE = '改约电话已打' WHERE PK_SCHAPPT = ?", other))
    assert (found.event, found.rule, list(found.fields)) == ("", 0, ["note"])
    assert "no [[event]] fits" in found.note.en


async def test_a_row_that_is_gone_is_looked_for_twice(site: Site) -> None:
    appointment, _ = booked(site)
    gone = ("UPDATE SCH_APPT SET DEL_FLAG = '1' WHERE PK_SCHAPPT = ?", appointment)
    assert await between(site, gone) == ()  # vanish = "ignore"
    orders = site.folder / "watch" / "orders.toml"
    orders.write_text(orders.read_text("utf-8").replace('vanish = "ignore"', 'vanish = "event"'), "utf-8")
    with orders.open("a", encoding="utf-8") as file:
        file.write('[[event]]\nkind = "SUSPENDED"\nwhen = "state: BOOKED -> gone"\n')
    other, _ = booked(site)
    (found,) = await between(site, ("UPDATE SCH_APPT SET DEL_FLAG = '1' WHERE PK_SCHAPPT = ?", other))
    assert (found.key, found.what, found.event) == (other, "gone", "SUSPENDED")
    assert found.rule == 14


def test_unreadable_rows_are_counted_by_reason_and_nothing_personal_is_shown(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preview(site, "watch:orders") == 0
    assert "可读" in capsys.readouterr().out
    orders = site.folder / "watch" / "orders.toml"
    text = orders.read_text("utf-8")
    text = text.replace("a.NOTE AS note", "a.NOTE AS note, m.NAME_PI AS name", 1)
    text = text.replace("JOIN SCH_SCH s", "JOIN PI_MASTER m ON m.PK_PI = a.PK_PI\nJOIN SCH_SCH s", 1)
    text = text.replace("fields = [", 'fields = [\n  { to = "patient_name", column = "name" },', 1)
    orders.write_text(text, "utf-8")
    assert change(site, "UPDATE BD_DATESLOT SET CODE_DATESLOT = '0777' WHERE CODE_DATESLOT = '0202'") == 1
    names = [row[0] for row in _all(site, "SELECT NAME_PI FROM PI_MASTER WHERE LENGTH(NAME_PI) > 1")]
    assert preview(site, "watch orders", "--json") == 1
    shown = capsys.readouterr().out
    assert not any(name in shown for name in names)
    found = json.loads(shown)
    (unreadable,) = found["unreadable"]
    assert unreadable["count"] > 0
    assert "period" in unreadable["reason"]
    assert found["rows"] > unreadable["count"]
    assert len(found["messages"]) <= found["rows"] - unreadable["count"]
    assert found["messages"][0]["message"]["patient_name"] == "***"
    assert preview(site, "watch:orders") == 1
    shown = capsys.readouterr().out
    assert "行无法读取" in shown
    assert not any(name in shown for name in names)


def _all(site: Site, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database(site))) as his:
        return list(his.execute(sql))


def test_rows_given_by_hand_need_no_database(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    Path(database(site)).unlink()
    row = 'appt = "A1", order_no = "T1", visit_date = "2026-03-02 00:00:00", cancel_time = "2026-03-02 09:00:00"'
    before = f'{{ {row}, state = "BOOKED", operator = "jk160" }}'
    after = f'{{ {row}, state = "CANCELLED", operator = "0931" }}'
    assert preview(site, "watch:orders", "--before", before, "--after", after, "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["changes"]
    assert (found["event"], found["rule"], found["occurred"]) == ("CANCELLED", 1, "2026-03-02 09:00:00+08:00")
    no_order = after.replace('order_no = "T1", ', "")
    assert preview(site, "watch:orders", "--after", no_order) == 0
    assert "没有 160 订单号" in capsys.readouterr().out
    as_json = json.dumps({"appt": "A1", "order_no": "T1", "state": "BOOKED", "operator": "0931"})
    assert preview(site, "watch:orders", "--after", as_json) == 0
    assert "no [[event]] fits" in capsys.readouterr().out
    assert preview(site, "watch:orders", "--after", '{ state = "GONE" }') == 1
    assert "field state" in capsys.readouterr().err


def test_what_is_no_watch_and_no_row(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert preview(site, "watch:order") == 2
    assert "orders" in capsys.readouterr().err
    assert preview(site, "watch:orders", "--after", "{ state ") == 2
    assert "不是一行数据" in capsys.readouterr().err
    assert preview(site, "CatalogService.ListDepartments", "--wait", "1") == 2
    Path(database(site)).unlink()
    assert preview(site, "watch:orders") == 1
    assert "HIS_UNAVAILABLE" in capsys.readouterr().out


def test_waiting_for_a_change_that_does_not_come(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert preview(site, "watch:orders", "--wait", "0.2") == 0
    shown = capsys.readouterr().out
    assert "最多等 0.2 秒" in shown
    assert "变化 0 行" in shown
