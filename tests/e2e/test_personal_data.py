"""The demo's whole story, and many failures on the way: no patient's value stands anywhere but in the HIS and the store.

Searched: logs of agent and relay at their most talkative, metrics, health, the texts and details of refused calls, what
the commands print, every other file that the site made (the relay's journal of events, sheets of reports, reasons of
quarantined files among them), and every file's name. The HIS's database, the agent's store and what windows have dropped
(docs/zh/operations.md says what they keep) are left out. Gateways: tests/gateways/test_personal_data.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import sqlite3
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from google.protobuf.message import Message

from agent import cli
from agent.contract_json import from_json
from agent.demo.narrator import Narrator
from agent.demo.plot import STEPS
from agent.demo.site import SiteOptions, free_port
from agent.demo.story import play
from agent.desk_keys import line_of, new_key
from agent.sandbox.client import CallFailed
from his_db.contract import operation
from his_db.samples.people import id_number, phone
from tests.bounds import PATIENCE
from tests.e2e.site import Bench, bench, small_hospital

PACK = Path(__file__).resolve().parents[2] / "his_db" / "packs" / "zebone" / "mappings"
PERSONAL = (
    *("NAME_PI", "ID_NO", "MOBILE", "ADDRESS", "CARD_NO", "INSU_NO"),
    *("NAME_REL", "IDNO_REL", "TEL_REL"),
)
STORES = ("his.db", "state/his160.db", "in/quarantine/", "in/done/")
# A window's own file, whose rows are as a mapping would never have them.
WATCH = """\
schema = 1
watch = "window_file"
subject = "appointment"
source = "windows"
key = "appointment_id"
fields = [
  { to = "appointment_id", column = "流水号" },
  { to = "order_no", column = "订单号" },
  { to = "state", column = "状态" },
  { to = "patient_id", column = "流水号" },
  { to = "schedule_id", column = "流水号" },
  { to = "patient_name", column = "姓名" },
  { to = "paid_fen", column = "金额", money = "yuan" },
]
[[event]]
kind = "CANCELLED"
when = "state: BOOKED|new -> CANCELLED"
"""
_LONG = 400.0  # of a machine that does much else
HIS_NAMES = ("拒绝人", "110101199001019999")
HIS_SAYS = "CREATE TRIGGER says BEFORE INSERT ON PI_MASTER WHEN NEW.NAME_PI LIKE '拒%' BEGIN SELECT RAISE(ABORT, '患者 拒绝人 110101199001019999 已锁定'); END"


@dataclass(slots=True)
class Heard:
    """Texts by where they were seen."""

    texts: dict[str, str] = field(default_factory=dict)

    def hear(self, where: str, text: str) -> None:
        self.texts[where] = self.texts.get(where, "") + "\n" + text

    def leaks(self, values: frozenset[str]) -> list[str]:
        """Where a value stands. Says a value's beginning only: this goes into the logs of whoever tests."""
        return [
            f"{where}: {value[:2]}…"
            for where, text in self.texts.items()
            for value in values
            if value in text or value.lower() in text or json.dumps(value)[1:-1] in text
        ]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Heard, str]]:
    """A site that has lived through it; the agent still runs."""
    folder = tmp_path_factory.mktemp("site")
    key = new_key()
    (folder / "keys.toml").write_text(line_of("window1", key), encoding="utf-8")
    drop = '[drop.windows]\nfolder = "in"\nquiet = "100ms"\npatience = "1s"\n'
    desk = f'[desk]\nenabled = true\ninsecure = true\nkeys = "keys.toml"\nlisten = "127.0.0.1:{free_port()}"\n'
    more = drop + desk + f'[log]\nlevel = "debug"\n[metrics]\nenabled = true\nlisten = "127.0.0.1:{free_port()}"\n'
    hospital = small_hospital("sqlite", folder)
    with closing(sqlite3.connect(folder / "his.db")) as connection:
        connection.execute(HIS_SAYS)
    heard, told = Heard(), io.StringIO()
    with bench(folder, hospital, stock=2, options=SiteOptions(more=more), start=False) as made:
        start_with_drop(made)
        narrator = Narrator(told)
        results = play(made.story(), STEPS, narrator)
        assert all(result.ok for result in results), results
        heard.hear("demo", told.getvalue())
        yield made, heard, key


def start_with_drop(bench: Bench) -> None:
    """The site with mappings of its own: the pack's, and a watch on dropped files."""
    site = bench.site
    shutil.copytree(PACK, site.folder / "mappings")
    (site.folder / "mappings" / "watch" / "window_file.toml").write_text(WATCH, encoding="utf-8")
    site.start_sandbox()
    site.write_config()
    text = site.config.read_text(encoding="utf-8")
    site.config.write_text(text.replace('"pack:zebone"', '"mappings"'), encoding="utf-8")
    site.start_agent()
    site.wait_attached(_LONG)
    site.wait_watching(_LONG)


def drop(bench: Bench) -> int:
    """Files as windows write them, right and wrong in every format, each with a patient in it; how many are wrong."""
    with closing(sqlite3.connect(bench.site.folder / "his.db")) as connection:
        name, number, mobile = connection.execute(
            "SELECT NAME_PI, ID_NO, MOBILE FROM PI_MASTER WHERE ID_NO > '' AND MOBILE > '' LIMIT 1 OFFSET 60"
        ).fetchone()
    head = "流水号,订单号,状态,患者,姓名,金额"
    row = {"流水号": "1", "订单号": "T1", "状态": name, "患者": number, "姓名": name, "金额": mobile}
    texts = {
        "a.csv": f"{head}\nF1,D1,CANCELLED,{number},{name},12.50\n",
        "b.csv": f"{head}\nF2,D2,{name},{number},{name},12.50\nF3,D3,CANCELLED,{number},{name},{mobile}\n",
        "c.csv": f"{name},{number}\n{mobile},{name}\n",
        "d.csv": f'{head}\n"{name},{number}\n',
        "e.json": json.dumps([row], ensure_ascii=False),
        "f.json": f'[{{"流水号": "{name}", "{number}": ',
        "g.json": json.dumps({name: number, "rows": name}, ensure_ascii=False),
        "h.xml": f"<rows><row><流水号>{number}</流水号><姓名>{name}</row></rows>",
        "i.xml": f"<rows><row><姓名>&{name};</姓名></row></rows>",
        "j.dbf": f"\x03{name}{number}" * 20,
        "k.txt": f"{head}\n{name}\n",
        "l.doc": f"{name} {number}",
    }
    folder = bench.site.folder / "in"
    for file, text in texts.items():
        (folder / f"{file}.tmp").write_bytes(text.encode("utf-8"))
        (folder / f"{file}.tmp").rename(folder / file)
    places = (folder, folder / ".taken")
    bench.site.wait_for(
        lambda: not any(each.is_file() for place in places for each in place.iterdir()), "all dropped files", _LONG
    )
    reasons = list((folder / "quarantine").glob("*.reason.txt"))
    assert len(reasons) >= 10, reasons
    return len(reasons)


def values_of(bench: Bench) -> frozenset[str]:
    """Every value of every patient in the HIS now, and of the one that only our calls name."""
    with closing(sqlite3.connect(bench.site.folder / "his.db")) as connection:
        rows = connection.execute(f"SELECT {', '.join(PERSONAL)} FROM PI_MASTER").fetchall()
    found = {str(value).strip() for row in rows for value in row if value}
    return frozenset({value for value in found if len(value) > 1} | set(STRANGER.values()) | set(HIS_NAMES))


STRANGER = {
    "name": "拒欧阳陌",
    "document_no": id_number("110101", date(1990, 1, 1), 999),
    "mobile": phone(99_999_999),
    "address": "拉萨市城关区无名路7号",
}


def requests(bench: Bench) -> Iterator[tuple[str, Message]]:
    """Calls that fail, each with values of a patient in as many places as it has."""
    with closing(sqlite3.connect(bench.site.folder / "his.db")) as connection:
        name, number, mobile, key = connection.execute(
            "SELECT NAME_PI, ID_NO, MOBILE, PK_PI FROM PI_MASTER WHERE DEL_FLAG = '0' AND ID_NO IS NOT NULL AND MOBILE > '' "
            "AND DT_IDTYPE = '01' LIMIT 1 OFFSET 25"
        ).fetchone()
    person = {
        "name": STRANGER["name"],
        "document_type": "01",
        "document_no": STRANGER["document_no"],
        "mobile": STRANGER["mobile"],
    }

    def made(about: str, **fields: Any) -> tuple[str, Message]:
        return about, from_json(json.dumps(fields), operation(about).request_class)

    yield made(
        "PatientService.EnsurePatient", request_id="p1", **person, address=STRANGER["address"]
    )  # the HIS's own sentence
    yield made("PatientService.EnsurePatient", request_id="p2", **{**person, "name": name, "mobile": "not a number"})
    yield made("PatientService.EnsurePatient", request_id="p3", **{**person, "document_no": number})  # another's name
    yield made("PatientService.EnsurePatient", request_id="p4", name=name)
    yield made("PatientService.EnsurePatient", request_id="p5", **{**person, "name": name * 40, "address": name * 400})
    yield made("PatientService.FindPatients", document_no=number[:-1] + "?", name=name)
    yield made("PatientService.FindPatients", document_no=number, name=name, page_token=mobile)
    yield made("PatientService.FindPatients", card_no=number, name=name)
    yield made("PatientService.ListVisitors", account_id=mobile)
    yield made(
        "AppointmentService.BookAppointment",
        request_id="b1",
        order_no="o1",
        patient_id=key,
        schedule_id="x",
        slot_id="y",
    )
    yield made("AppointmentService.CancelAppointment", request_id="c1", order_no="o3", note=f"{name} {number} 家里有事")
    yield made(
        "PaymentService.ConfirmPayment",
        request_id="m1",
        order_no="o4",
        out_trade_no="t1",
        amount_fen=1,
        method="WECHAT",
        pay_time="2026-11-23T09:00:00Z",
    )


def windows(bench: Bench) -> Iterator[tuple[str, bytes]]:
    """What a window program sends, right and wrong, with a patient in it."""
    with closing(sqlite3.connect(bench.site.folder / "his.db")) as connection:
        name, number = connection.execute(
            "SELECT NAME_PI, ID_NO FROM PI_MASTER WHERE ID_NO > '' LIMIT 1 OFFSET 40"
        ).fetchone()
    good = {"request_id": "w1", "order_no": "none", "operator_id": "0931", "note": f"{name} {number} 要求"}
    yield "CancelOnSite", json.dumps(good).encode()
    yield "RefundOnSite", json.dumps({**good, "request_id": "w2"}, ensure_ascii=False).encode("gbk")
    yield "CancelOnSite", json.dumps({**good, "order_no": {"name": name}}).encode()
    yield "CancelOnSite", json.dumps({**good, name: number}).encode()
    yield "CancelOnSite", json.dumps({**good, "note": f"{name}{number}" * 20}).encode()
    yield "CancelOnSite", f'{{"note": "{name} {number}'.encode()
    yield "GetOrder", f"{name} {number}".encode()
    yield name, b"{}"


def told(bench: Bench, key: str, method: str, body: bytes) -> str:
    """Call the desk; the answer with its status."""
    port = re.search(r"\[desk\].*?127.0.0.1:(\d+)", bench.site.options.more, re.DOTALL)
    assert port is not None
    request = urllib.request.Request(
        f"http://127.0.0.1:{port[1]}/desk/v1/{quote(method)}",
        body,
        {"X-Api-Key": key, "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return f"{answer.status} {answer.read().decode()}"
    except urllib.error.HTTPError as error:
        with error:
            return f"{error.code} {error.read().decode()} {error.headers}"


COMMANDS = (
    ("status",),
    ("status", "--json"),
    ("top", "--count", "1"),
    ("ledger", "list"),
    ("ledger", "list", "--json"),
    ("outbox", "list"),
    ("outbox", "list", "--state", "acked"),
    ("audit", "show"),
    ("audit", "export"),
    ("audit", "export", "--format", "syslog"),
    ("audit", "verify"),
    ("unknown", "list"),
    ("unknown", "list", "--json"),
    ("desk", "list"),
    ("watch", "status"),
    ("watch", "probe", "SCH_APPT"),
    ("state", "check"),
    ("check", "--online"),
    ("doctor",),
    ("doctor", "--json"),
    ("mapping", "check", "--online"),
    *(("report", "run", name, "--format", "xlsx", "--format", "csv", "--rows", "500") for name in ("R1", "R4", "D2")),
    ("report", "run", "R2", "--month", "2026-11", "--json"),
    ("report", "run", "R3", "--from", "1999-01-01", "--until", "1999-01-02"),
    ("report", "list"),
    ("report", "show", "R4", "--rows", "500"),
    ("report", "show", "R4", "--rows", "500", "--json"),
    ("report", "verify", "R8"),
    ("report", "work"),
    ("report", "work", "--json"),
)


def command(bench: Bench, *words: str) -> str:
    """What a command prints."""
    arguments = [*words, "--config", str(bench.site.config)]
    if words[0] in ("status", "top") or words[:2] == ("watch", "status"):
        arguments += ["--certs", str(bench.site.pki.folder), "--as", "operator"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = cli.run(arguments)
    assert code in (0, 1), (words, code, printed.getvalue())
    return printed.getvalue()


def test_no_value_of_a_patient_stands_anywhere(played: tuple[Bench, Heard, str]) -> None:
    made, heard, key = played
    refused = 0
    for about, request in requests(made):
        try:
            made.site.client.call(about, request)
        except CallFailed as error:
            refused += 1
            heard.hear(
                f"refusal of {about} {error.reason}",
                f"{error} {error.zh} {error.status} {error.status.SerializeToString()!r}",
            )
    assert refused >= 8
    answers = [told(made, key, method, body) for method, body in windows(made)]
    heard.hear("answers to windows", "\n".join(answers))
    assert len([answer for answer in answers if answer[0] in "45"]) >= 6, answers
    wrong = drop(made)
    values = values_of(made)
    assert len(values) > 500
    orders = {event.event.order_no for event in made.site.client.events()} | {"o1", "o3", "o4"}
    assert len(orders) > 5
    for words in (*COMMANDS, *(("ledger", "show", order) for order in sorted(orders))):
        heard.hear(" ".join(words), command(made, *words))
    for path in ("metrics", "healthz"):
        port = made.site.options.more.rpartition(":")[2].strip().strip('"')  # [metrics] comes last
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=PATIENCE) as answer:
            heard.hear(f"GET /{path}", answer.read().decode())
    made.site.stop()
    folder = made.site.folder
    left_out = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        heard.hear("names of files", name)
        if name.startswith(STORES):
            left_out += 1
        elif path.is_file():
            heard.hear(name, text_of(path))
        if name.endswith(".reason.txt"):
            heard.hear("reasons", text_of(path))
    assert left_out >= len(STORES)
    assert heard.texts["reasons"].count("SHA-256") == wrong
    assert "*" in heard.texts["report show R4 --rows 500"], "a masked name"
    sheets = [name for name in heard.texts if name.endswith((".xlsx", ".csv"))]
    assert len(sheets) >= 6, sheets
    assert all(heard.texts[name].count(",") > 10 for name in sheets if name.endswith(".csv"))
    for where in ("logs/agent.log", "logs/sandbox.log", "GET /metrics", "audit show", "demo", "reasons"):
        assert len(heard.texts[where]) > 200, where
    assert heard.leaks(values) == []


def text_of(path: Path) -> str:
    """A file as text; of a sheet, what is in it."""
    if path.suffix != ".xlsx":
        return path.read_bytes().decode("utf-8", "replace")
    with zipfile.ZipFile(path) as sheet:
        return "\n".join(sheet.read(name).decode("utf-8", "replace") for name in sheet.namelist())


def test_the_search_finds_what_is_there(played: tuple[Bench, Heard, str]) -> None:
    made, _, _ = played
    with closing(sqlite3.connect(made.site.folder / "his.db")) as connection:
        (name,) = connection.execute("SELECT NAME_PI FROM PI_MASTER LIMIT 1 OFFSET 30").fetchone()
    for text in (f"patient {name}", json.dumps({"name": name})):
        heard = Heard()
        heard.hear("log", text)
        assert heard.leaks(values_of(made)) != []
