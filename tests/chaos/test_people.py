"""``his160 ledger`` and ``his160 unknown`` as a person uses them: beside an agent that runs, and after one that died."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.cli import run
from tests.chaos.process import AgentProcess, Died
from tests.chaos.scenes import Customer
from tests.chaos.site import SETTLE, SMALL, ChaosSite, chaos_site

pytestmark = [pytest.mark.chaos, pytest.mark.skipif(sys.platform == "win32", reason="fork and Unix sockets")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosSite]:
    with chaos_site("sqlite", tmp_path_factory.mktemp("people"), size=SMALL) as made:
        yield made


def killed_after_commit(site: ChaosSite, who: Customer, folder: Path, *steps: str) -> None:
    """Do the steps; the agent dies when the HIS has the last one and the ledger does not know yet."""
    agent = site.start(folder)
    for step in steps[:-1]:
        assert agent.call(*who.request(step)).is_done
    agent.kill()
    agent = site.start(folder)
    operation, request = who.request(steps[-1])
    agent.arm_at("store Ledger.advance", "before")  # right before the answer of the HIS goes into the ledger
    with pytest.raises(Died):
        agent.call(operation, request)
    agent.wait_dead()


@dataclass(frozen=True, slots=True)
class Done:
    """What a command line left behind."""

    returncode: int
    stdout: str
    stderr: str


def tool(folder: Path, *arguments: str) -> Done:
    """``his160 …`` in this process: imported once."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run([*arguments, "--config", str(folder / "config.toml")])
    return Done(code, out.getvalue(), err.getvalue())


def lines(done: Done) -> list[Any]:
    assert done.returncode == 0, (done.stdout, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def another_amount(site: ChaosSite, who: Customer) -> None:
    """Somebody has changed the payment in the HIS: no probe can tell any more."""
    with closing(sqlite3.connect(site.url.removeprefix("sqlite:///"))) as his:
        assert his.execute(
            "UPDATE BL_EXT_PAY SET AMOUNT = AMOUNT + 1 WHERE OUT_TRADE_NO = ?", (who.out_trade_no,)
        ).rowcount
        his.commit()


def test_an_outcome_that_the_his_can_tell_is_asked_for(site: ChaosSite) -> None:
    who, folder = Customer("PEOPLE1", site.place()), site.case_folder()
    killed_after_commit(site, who, folder, "lock", "book")
    (row,) = lines(tool(folder, "ledger", "list", "--state", "sent", "--json"))
    assert (row["request_id"], row["operation_zh"], row["state_zh"]) == (
        "PEOPLE1-book",
        "提交预约 BookAppointment",
        "处理中",
    )
    site.start(folder).kill()  # starts, sees what was cut off, asks too early to be sure of anything, dies
    shown = tool(folder, "ledger", "show", "PEOPLE1")
    assert shown.returncode == 0, shown.stderr
    assert "锁号 LockSlot" in shown.stdout
    assert "BOOKED" in shown.stdout
    resolved = tool(folder, "ledger", "resolve", "PEOPLE1")
    assert resolved.returncode == 0, (resolved.stdout, resolved.stderr)
    found = json.loads(tool(folder, "ledger", "show", "PEOPLE1-book", "--json").stdout)
    assert [(each["operation"], each["state"]) for each in found["commands"]] == [
        ("AppointmentService.LockSlot", "DONE"),
        ("AppointmentService.BookAppointment", "DONE"),
    ]
    assert tool(folder, "ledger", "show", "NOBODY").returncode == 1


def test_nothing_personal_without_being_asked_for(site: ChaosSite) -> None:
    who, folder = Customer("PEOPLE2", site.place()), site.case_folder()
    agent = site.start(folder)
    assert agent.call(*who.request("patient")).is_done
    assert agent.call(*who.request("lock")).is_done
    assert agent.call(*who.request("book")).is_done
    agent.kill()
    shown = [tool(folder, "ledger", "show", key, "--json") for key in ("PEOPLE2", "PEOPLE2-patient")]
    listed = tool(folder, "ledger", "list", "--steps")
    for done in (*shown, listed):
        assert done.returncode == 0
        for personal in ("测试甲", who.document_no, "12600000000"):
            assert personal not in done.stdout + done.stderr
    named = tool(folder, "ledger", "show", "PEOPLE2-patient", "--personal")
    assert "测试甲" in named.stdout
    audit = tool(folder, "audit", "show", "--what", "ledger.show")
    assert '"personal": true' in audit.stdout


def test_a_person_decides_and_the_running_agent_notices(site: ChaosSite) -> None:
    who, folder = Customer("PEOPLE3", site.place()), site.case_folder()
    killed_after_commit(site, who, folder, "lock", "book", "pay")
    another_amount(site, who)
    agent = site.start(folder)
    try:
        _decide(site, who, folder, agent)
    finally:
        agent.kill()
    assert tool(folder, "audit", "verify").returncode == 0


def _decide(site: ChaosSite, who: Customer, folder: Path, agent: AgentProcess) -> None:
    operation, request = who.request("pay")
    agent.ahead(SETTLE)
    agent.sweep()
    assert agent.call(operation, request).reason == "OUTCOME_UNKNOWN"
    (row,) = lines(tool(folder, "unknown", "list", "--json"))
    assert (row["request_id"], row["order_no"]) == ("PEOPLE3-pay", "PEOPLE3")
    assert "another amount" in row["reason"]
    probed = tool(folder, "unknown", "probe", "--all", "--offline")
    assert probed.returncode == 1
    assert "仍未知" in probed.stdout
    words = ("unknown", "decide", "PEOPLE3-pay", "--done", "--note", "窗口核对收据", "--who", "收费处")
    first = tool(folder, *words)
    assert first.returncode == 3, (first.stdout, first.stderr)
    digest = first.stdout.rpartition("--evidence ")[2].split()[0]
    stale = tool(folder, *words, "--evidence", "0" * 16)
    assert stale.returncode == 3
    assert "证据已有变化" in stale.stdout
    assert agent.call(operation, request).reason == "OUTCOME_UNKNOWN"
    done = tool(folder, *words, "--evidence", digest)
    assert done.returncode == 0, (done.stdout, done.stderr)
    told = agent.call(operation, request)  # the agent that runs: it reads the store
    assert told.is_done
    assert told.message.payment.amount_fen == who.place.fee_fen
    again = tool(folder, *words, "--evidence", digest)
    assert again.returncode == 1
    assert "无需决定" in again.stderr
    audit = tool(folder, "audit", "show", "--what", "ledger.decide")
    assert "窗口核对收据" in audit.stdout
    assert digest in audit.stdout


def test_a_decision_against_what_the_his_shows_is_not_taken_lightly(site: ChaosSite) -> None:
    who, folder = Customer("PEOPLE4", site.place()), site.case_folder()
    killed_after_commit(site, who, folder, "lock", "book", "pay")
    another_amount(site, who)
    agent = site.start(folder)
    agent.ahead(SETTLE)
    agent.sweep()
    agent.kill()
    with closing(sqlite3.connect(site.url.removeprefix("sqlite:///"))) as his:
        his.execute("UPDATE BL_EXT_PAY SET AMOUNT = AMOUNT - 1 WHERE OUT_TRADE_NO = ?", (who.out_trade_no,))
        his.commit()
    words = ("unknown", "decide", "PEOPLE4-pay", "--not-done", "--note", "看错了")
    refused = tool(folder, *words)
    assert refused.returncode == 1
    assert "HIS 显示该操作已执行" in refused.stderr
    assert tool(folder, "unknown", "probe", "PEOPLE4-pay").returncode == 0
    assert lines(tool(folder, "unknown", "list", "--json")) == []


def test_the_running_agent_is_asked_to_ask(site: ChaosSite) -> None:
    """Without --offline, the answer is the running agent's; one that does not ask in time is not waited for for ever."""
    who, folder = Customer("PEOPLE5", site.place()), site.case_folder()
    config = folder / "config.toml"
    config.write_text(config.read_text(encoding="utf-8").replace('sweep = "1h"', 'sweep = "1s"'), encoding="utf-8")
    killed_after_commit(site, who, folder, "lock", "book", "pay")
    another_amount(site, who)
    agent = site.start(folder)
    try:
        probed = tool(folder, "unknown", "probe", "PEOPLE5-pay")
        assert probed.returncode == 1
        assert "PEOPLE5-pay" in probed.stdout
        assert "未在期限内" not in probed.stdout
    finally:
        agent.kill()


def test_filters_and_times(site: ChaosSite) -> None:
    who, folder = Customer("PEOPLE6", site.place()), site.case_folder()
    agent = site.start(folder)
    for step in ("lock", "book", "cancel"):
        assert agent.call(*who.request(step)).is_done
    agent.kill()

    def found(*arguments: str) -> list[str]:
        return [
            row["request_id"].rpartition("-")[2] for row in lines(tool(folder, "ledger", "list", "--json", *arguments))
        ]

    assert found() == ["lock", "book", "cancel"]
    assert found("--limit", "1") == ["cancel"]
    assert found("--operation", "BookAppointment") == ["book"]
    assert found("--since", "1h", "--order", "PEOPLE6", "--state", "done") == ["lock", "book", "cancel"]
    assert found("--until", "1h") == []
    assert found("--state", "unknown", "--state", "rejected") == []
    assert tool(folder, "ledger", "list", "--since", "yesterday").returncode == 2
