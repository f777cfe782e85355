"""Commands over WeChat Pay, 医保 and the mobile payment centre, each fault at each request: no value of the patient
stands in a log, an error, a row's detail, the audit, an event, the state of a source, or what a command prints.

What the other side says may quote the patient back (refusals, pages of something between, cut and spoilt answers).
The store's requests, answers and settlements are left out: docs/zh/operations.md says what they keep.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from agent import cli
from agent.errors import to_status
from his_db.errors import HisError
from his_db.simulator import Fault, FaultKind
from sync.audit_export import json_line, syslog_message
from sync.store import CommandFilter, EventState
from tests.gateways.saga_bed import (
    CONFIRM,
    CREATE,
    PSN,
    QUOTE,
    REFUND,
    REVERSE,
    SETTLE,
    City,
    Keys,
    confirm,
    create,
    quote,
    refund,
    reverse,
    settle,
    trade_no,
)
from tests.simulated import Bench

NAME, NUMBER, TOKEN, AUTH = "张三", "11010519491231002X", "TOKEN1", "AUTH1"
OPENID = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
MOBILE, CARD = "13800138160", "A12345678"
QUOTED = f"参保人 {NAME} {NUMBER} 卡号{CARD} 电话{MOBILE} openid={OPENID} {PSN} {TOKEN} {AUTH} 状态异常"
VALUES = (NAME, NUMBER, PSN, TOKEN, AUTH, OPENID, MOBILE, CARD)
CODES = {"wechat": "PARAM_ERROR", "insurance": "-1", "mobile": "-1"}
INSURED, PAID = ("quote", "settle", "reverse"), ("create", "confirm", "refund")
CONFIG = """\
[site]
code = "440305160"
[state]
path = "state.db"
[source.his]
engine = "sqlite"
database = "his.db"
[mapping]
path = "set"
[server]
enabled = true
insecure = true
[delivery]
sink = "pull"
"""
NONE = 'schema = 1\noperation = "CatalogService.ListDoctors"\nkind = "unsupported"\nwhy = "测试"\n'


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, wechat_keys: Path) -> Keys:
    return Keys(wechat_keys, tmp_path_factory.mktemp("mobile-keys"))


class Heard:
    """Texts by where they were seen."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def hear(self, where: str, text: str) -> None:
        self.texts.append((where, text))

    def fails(self, where: str, error: BaseException) -> None:
        """Everything that anybody could print of an error: its texts, attributes, causes, traceback; what the caller is told."""
        chain: list[BaseException] = [error]
        while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
            chain.append(before)
        for each in chain:
            # ``text``: the other side's sentence, for the mapping's outcomes; ``doc``: what json could not read.
            shown = {name: value for name, value in vars(each).items() if name not in ("text", "doc")}
            self.hear(f"{where} {type(each).__name__}", f"{each} {each!r} {shown!r}")
        self.hear(f"{where} traceback", "".join(traceback.format_exception(error)))
        assert isinstance(error, HisError), error
        status = to_status(error)
        self.hear(f"{where} status", f"{status} {status!r}")

    def leaks(self) -> list[str]:
        return [
            f"{where}: {value[:2]}… in {text[max(0, text.find(value) - 40) : text.find(value)]!r}"
            for where, text in self.texts
            for value in VALUES
            if value in text or json.dumps(value)[1:-1] in text
        ]


class Walk:
    """Orders of one patient, each meeting one fault; everything that fails is heard."""

    def __init__(self, city: City, heard: Heard, *, mobile: bool) -> None:
        self.city = city
        self.heard = heard
        self.mobile = mobile
        self.number = 0
        self.met = 0
        self.split: Any = None
        self.setl_id = ""

    async def ask(self, where: str, operation: str, request: Any) -> Any:
        """None when it fails."""
        try:
            return await self.city.run.execute(operation, request)
        except HisError as error:
            self.heard.fails(where, error)
            return None

    async def order(self, bench: Bench | None, fault: Fault | None, step: str) -> None:
        """One order through all its steps; before ``step`` the fault is set."""
        self.number += 1
        self.split, self.setl_id = None, ""
        order_no, where = f"T{self.number}", "" if fault is None else f"{step} {fault.kind.value} {fault.skip}"
        self.city.booked(order_no)
        steps = INSURED if step in INSURED else PAID
        for name in steps:
            if name == step and fault is not None and bench is not None:
                bench.server.add_faults([fault])
            await self.step(name, order_no, where or f"{name} well")
            if name == step and bench is not None:
                self.met += not bench.server.faults()
                bench.server.clear_faults()
        self.city.clock.move(seconds=40)
        await self.city.run.sweep()

    async def step(self, name: str, order_no: str, where: str) -> None:
        if name == "quote":
            answer = await self.ask(where, QUOTE, quote(order_no, mobile=self.mobile))
            self.split = None if answer is None else answer.settlement.split
        elif name == "settle" and self.split is not None:
            if self.split.cash_fen and not self.mobile:
                await self.ask(where, CREATE, create(order_no, self.split.cash_fen))
                self.pays(order_no)
            answer = await self.ask(where, SETTLE, settle(order_no, self.split, mobile=self.mobile))
            self.setl_id = "" if answer is None else answer.settlement.setl_id
        elif name == "reverse" and self.setl_id:
            await self.ask(where, REVERSE, reverse(order_no, self.setl_id))
        elif name == "create":
            await self.ask(where, CREATE, create(order_no))
        elif name == "confirm":
            await self.ask(where, CONFIRM, confirm(order_no, self.pays(order_no)))
        elif name == "refund":
            await self.ask(where, REFUND, refund(order_no))

    def pays(self, order_no: str) -> str:
        try:
            return self.city.pays(trade_no(order_no))
        except (KeyError, ValueError):
            return "4200000000000000"  # it was not opened


def faults(bench: Bench, skip: int) -> Iterator[Fault]:
    """Every fault, quoting the patient where it says anything."""
    for kind in FaultKind:
        status = 400 if skip % 2 else 502
        code = CODES[bench.server.simulator.name]
        yield Fault(kind, "", 1, skip, 0.05, code, QUOTED, status)


async def commands(folder: Path, heard: Heard, orders: int) -> None:
    """What a person sees of it."""
    (folder / "set").mkdir()
    (folder / "set" / "none.toml").write_text(NONE, encoding="utf-8")
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    (folder / "his.db").touch()
    shown = [("unknown", "list"), ("unknown", "list", "--json"), ("ledger", "list"), ("outbox", "list")]
    shown += [("audit", "show", "--limit", "1000"), ("audit", "export"), ("audit", "export", "--format", "syslog")]
    shown += [("state", "check"), ("doctor", "--only", "store", "--only", "mappings")]
    shown += [("ledger", "show", f"T{number}") for number in range(1, orders + 1, 7)]
    for words in shown:
        printed = io.StringIO()
        with redirect_stdout(printed):
            code = await asyncio.to_thread(cli.run, [*words, "--config", str(folder / "config.toml")])
        assert code in (0, 1), (words, printed.getvalue())
        heard.hear(" ".join(words), printed.getvalue())


async def stored(city: City, heard: Heard) -> None:
    """Rows without what they keep by design: details, audit, events."""
    for row in await city.store.read(lambda work: work.commands.search(CommandFilter(limit=10_000))):
        heard.hear(f"row of {row.operation}", f"{row.request_id} {row.detail} {row.natural_key}")
    for entry in await city.store.read(lambda work: work.audit.after(0, 100_000)):
        heard.hear("audit", json_line(entry) + syslog_message(entry, host="h"))
    for state in EventState:
        for event in await city.store.read(lambda work, state=state: work.events.listed(state, 10_000)):
            heard.hear("event", f"{event.payload!r} {event.payload.decode('utf-8', 'replace')} {event.detail}")


@pytest.mark.parametrize("variant", ["gateway", "centre"])
async def test_no_fault_of_a_gateway_makes_a_patients_value_known(
    tmp_path: Path, keys: Keys, caplog: pytest.LogCaptureFixture, variant: str
) -> None:
    caplog.set_level(logging.DEBUG)
    heard = Heard()
    city = City(tmp_path, keys, variant, rules={}, patience=1.0)
    try:
        walk = Walk(city, heard, mobile=variant == "centre")
        outside = city.insurance if city.centre is None else city.centre
        assert outside is not None
        for step in INSURED + PAID:
            bench = city.house if step in PAID else outside
            await walk.order(None, None, step)
            if bench is city.house and variant == "centre":  # the payment house is asked as in the other variant
                continue
            for skip in (0, 1):
                for fault in faults(bench, skip):
                    await walk.order(bench, fault, step)
        for bench in city.benches:
            heard.hear("source", repr(bench.source.status()))
        await stored(city, heard)
        await commands(tmp_path, heard, walk.number)
    finally:
        await city.close()
    for record in caplog.records:
        text = record.getMessage() + str(vars(record))
        if record.exc_info is not None:
            text += "".join(traceback.format_exception(record.exc_info[1]))
        heard.hear(f"log {record.name}", text)
    heard.hear("file names", "\n".join(path.name for path in tmp_path.rglob("*")))
    assert walk.met >= (60 if variant == "gateway" else 45), "the faults must be met"
    assert len([where for where, _ in heard.texts if where.endswith("status")]) >= 40
    bodies = "".join(entry["body"] for bench in city.benches for entry in bench.server.requests)
    assert OPENID in bodies, "the values were really sent"
    leaks = heard.leaks()
    assert not leaks, "\n".join(leaks)
