"""``his160 doctor`` on broken sites: machine, disk, ports, configuration, store; each check bounded and alone."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from agent import cli
from agent.doctor import areas
from agent.doctor import examine as examining
from agent.doctor.areas import disk, machine
from agent.doctor.check import Check, Context, Space
from agent.doctor.finding import Findings
from agent.doctor.registry import AREAS, load
from agent.machine import file_limit, memory_limit
from agent.problem_codes import CODES
from his_db.registry import load_sample
from his_db.sample import SMALL, hospital_now
from sync.audit import Audit
from sync.audit_chain import AuditEntry
from sync.clock import utc_now
from sync.money_book import RefundProgress, RefundRow, TradeRow, TradeState
from sync.store import Transaction, open_store
from tests.doctor import HEAD, MAPPING, SERVER, SQLITE, Patient, Seen
from tests.servers import nats_url, unavailable

PACK = Path(__file__).resolve().parents[3] / "his_db" / "packs" / "zebone" / "mappings"
PAGES = Path(__file__).resolve().parents[3] / "docs" / "zh"
MEGABYTE = 1024 * 1024
SECRET = "p4ssw0rd-绝密"


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    """A site with a sample HIS and its pack. Nobody may change it."""
    folder = tmp_path_factory.mktemp("whole")
    load_sample("zebone").create(f"sqlite:///{folder / 'his.db'}", today=hospital_now().date(), size=SMALL)
    shutil.copytree(PACK, folder / "mappings")
    return Patient(folder, server=f'{SERVER}listen = "127.0.0.1:0"\n')


# -- the whole -----------------------------------------------------------------------------------------------


def test_a_good_site_has_no_errors_and_every_area_says_something(
    whole: Patient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["doctor", "--config", str(whole.config), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["errors"] == 0
    silent = {"certificates", "relay"}  # it has neither
    assert {check["area"] for check in told["checks"]} == set(AREAS) - silent
    assert all(check["facts"] or check["findings"] for check in told["checks"])
    facts = " ".join(fact["en"] for check in told["checks"] for fact in check["facts"])
    for word in (
        "time-outs work",
        "Chinese there and back is right",
        "Chinese columns",
        "clocks",
        "mappings are right",
    ):
        assert word in facts


def test_it_is_told_in_either_language_and_in_part(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    for lang in ("zh", "en", "both"):
        arguments = ["doctor", "--config", str(patient.config), "--only", "machine", "--only", "disk", "--lang", lang]
        assert cli.run(arguments) == 0
        said = capsys.readouterr().out
        assert ("磁盘" in said) == (lang != "en")
        assert ("files that may be open" in said) == (lang != "zh")
        assert "端口" not in said
    assert cli.run(["doctor", "--config", str(patient.config), "--only", "moon"]) == 2


def test_a_configuration_that_cannot_be_read_is_78(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    patient.write("[site]\n")
    assert cli.run(["doctor", "--config", str(patient.config)]) == 78
    assert "config.toml:1:" in capsys.readouterr().err


def test_every_area_is_listed_and_loads() -> None:
    present = {path.stem for path in Path(areas.__path__[0]).glob("*.py")} - {"__init__"}
    assert present == {entry.target.partition(":")[0].rpartition(".")[2] for entry in AREAS.values()}
    assert all(callable(load(name)) for name in AREAS)


def test_every_code_of_the_doctor_is_explained_to_people() -> None:
    page = (PAGES / "doctor.md").read_text(encoding="utf-8")
    of_doctor = {code for code in CODES if "H720" <= code <= "H740"}
    assert len(of_doctor) == 21
    assert of_doctor - {code for code in of_doctor if code in page} == set()


# -- checks are bounded and alone ----------------------------------------------------------------------------


def test_a_source_that_cannot_be_used_is_told_once(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two areas log in; on a busy machine the driver has other words for the second."""

    def check(where: str, code: str, words: str) -> Check:
        def act(_: Context) -> Findings:
            found = Findings()
            found.wrong(code, where, f"连不上：{words}", words, "请检查", "look")
            return found

        return Check(words, act)

    his, other = "[source.his]", "[source.lis]"
    scripted = {
        "sources": lambda _: [check(his, "H500", "refused"), check(other, "H500", "refused")],
        "mappings": lambda _: [check(his, "H500", "timed out"), check(his, "H501", "one"), check(his, "H501", "two")],
    }
    monkeypatch.setattr(examining, "load", scripted.__getitem__)
    found = patient.look(*scripted).found
    assert [(each.where, each.en) for each in found if each.code == "H500"] == [(his, "refused"), (other, "refused")]
    assert [each.en for each in found if each.code == "H501"] == ["one", "two"]


def test_a_check_that_hangs_or_fails_stops_no_other(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    forever = threading.Event()

    def hangs(_: Context) -> Findings:
        forever.wait(30)
        return Findings()

    def fails(_: Context) -> Findings:
        raise ValueError(f"a row of {SECRET}")

    def works(_: Context) -> Findings:
        findings = Findings()
        findings.good("好", "well")
        return findings

    checks = [Check("hangs", hangs, timedelta(milliseconds=50)), Check("fails", fails), Check("works", works)]
    scripted = {"machine": lambda _: checks, "disk": lambda _: 1 / 0, "ports": lambda _: [Check("works too", works)]}
    monkeypatch.setattr(examining, "load", scripted.__getitem__)
    try:
        seen = patient.look("machine", "disk", "ports")
    finally:
        forever.set()
    assert [finding.where for finding in seen.found] == ["hangs", "fails", "disk"]
    assert set(seen.errors) == {"H720"}
    assert SECRET not in str(seen.found)
    assert seen.facts.count("well") == 2
    assert seen.code == 1


# -- configuration and secrets -------------------------------------------------------------------------------


def test_a_secret_that_cannot_be_read_is_78_and_the_source_is_not_tried(tmp_path: Path) -> None:
    """A login with an empty password, again and again, locks accounts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        listener.settimeout(0)
        port = listener.getsockname()[1]
        source = f'[source.his]\nengine = "postgresql"\ndatabase = "his"\nhost = "127.0.0.1"\nport = {port}\n'
        patient = Patient(tmp_path, source=source + 'user = "u"\npassword = "@file:none"\n')
        seen = patient.look("config", "disk", "sources", "mappings")
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert seen.errors == ["H703"]
    assert seen.code == 78
    assert "was not tried" in seen.facts
    assert "[state] path can be written" in seen.facts


@pytest.mark.skipif(find_spec("dmPython") is not None, reason="the driver of 达梦 is installed here")
def test_a_driver_that_is_not_installed_is_told_as_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not as a program that failed: nobody at the hospital could mend that; and `run` is not started again for ever."""
    source = '[source.his]\nengine = "dm"\ndatabase = "his"\nhost = "127.0.0.1"\nuser = "u"\npassword = "@file:pw"\n'
    patient = Patient(tmp_path, source=source)
    (tmp_path / "pw").write_text("x", encoding="utf-8")
    seen = patient.look("config", "sources", "mappings")
    assert (seen.errors, seen.code) == (["H716", "H500"], 78)
    told = [finding for finding in seen.found if finding.code in ("H716", "H500")]
    assert all("dmPython" in finding.zh for finding in told)
    for command in ("check", "run"):
        assert cli.run([command, "--config", str(patient.config)]) == 78
        assert "H716" in capsys.readouterr().err


def test_a_literal_password_is_a_finding_and_is_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = '[source.his]\nengine = "mysql"\ndatabase = "his"\nhost = "127.0.0.1"\n'
    patient = Patient(tmp_path, source=f'{source}password = "{SECRET}"\n')
    assert patient.look("config").errors == ["H701"]
    assert cli.run(["doctor", "--config", str(patient.config), "--only", "config"]) == 78
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX")
def test_a_password_that_everybody_can_read(tmp_path: Path) -> None:
    source = '[source.his]\nengine = "mysql"\ndatabase = "his"\nhost = "127.0.0.1"\npassword = "@file:pw"\n'
    patient = Patient(tmp_path, source=source)
    (tmp_path / "pw").write_text(SECRET, encoding="utf-8")
    (tmp_path / "pw").chmod(0o644)
    seen = patient.look("config")
    assert seen.notes == ["H733"]
    assert seen.found[0].where == "[source.his] password"
    assert SECRET not in str(seen.found)
    (tmp_path / "pw").chmod(0o640)
    assert patient.look("config").found == []


# -- machine -------------------------------------------------------------------------------------------------


def test_little_memory_and_few_files() -> None:
    assert [item.code for item in machine.memory(100 * MEGABYTE).found] == ["H721"]
    assert [item.severity.value for item in machine.memory(512 * MEGABYTE).found] == ["warning"]
    assert [item.severity.value for item in machine.files(128).found] == ["error"]
    assert [item.code for item in machine.files(512).found] == ["H722"]
    for good in (machine.memory(0), machine.memory(4096 * MEGABYTE), machine.files(0), machine.files(65536)):
        assert good.facts
        assert not good.found
    assert memory_limit() > 0
    assert file_limit() >= 0


def test_another_time_zone(patient: Patient) -> None:
    here = datetime.now().astimezone().utcoffset()
    for zone, hours in (("Asia/Shanghai", 8), ("Etc/GMT+10", -10)):
        patient.write(f'site.timezone = "{zone}"\n' + HEAD + SQLITE + SERVER)
        assert ("H723" in patient.look("machine").notes) == (here != timedelta(hours=hours))


# -- disk ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "code"),
    [
        (Space(10**12, 50 * MEGABYTE, 10**6), ("H725", "error")),
        (Space(10**12, 500 * MEGABYTE, 10**6), ("H725", "warning")),
        (Space(10**12, 10**11, 3), ("H725", "warning")),
    ],
)
def test_a_disk_that_is_nearly_full(patient: Patient, space: Space, code: tuple[str, str]) -> None:
    seen = patient.look("disk", space=lambda _: space)
    assert [(item.code, item.severity.value) for item in seen.found] == [code]
    assert not patient.look("disk").found


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB with 16 free."""
    place = tmp_path / "tiny"
    place.mkdir()
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)], check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        (place / "filler").write_bytes(b"x" * 48 * 1024)
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(tiny: Path) -> None:
    patient = Patient(tiny.parent)
    patient.write(HEAD.replace("state/agent.db", f"{tiny}/agent.db") + SQLITE + SERVER)
    seen = patient.look("disk")
    assert seen.errors == ["H725", "H725"]  # what is left, and the write that was tried
    assert "No space left" in seen.found[1].en
    assert seen.code == 1


def test_a_folder_that_cannot_be_written(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.os, "access", lambda *_: False)  # root may write anywhere
    assert patient.look("disk").errors == ["H726"]


def test_a_store_on_a_network_share(patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nnas:/x {tmp_path} nfs4 rw 0 0\nx /other cifs rw 0 0\n")
    monkeypatch.setattr(disk, "file_system", partial(disk.file_system, mounts=mounts))
    assert patient.look("disk").errors == ["H727"]
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\n")
    assert not patient.look("disk").found


# -- ports ---------------------------------------------------------------------------------------------------


def test_ports(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        patient = Patient(tmp_path, server=f'{SERVER}listen = "127.0.0.1:{port}"\n')
        seen = patient.look("ports")
        assert seen.errors == ["H728"]
        assert f"sport = :{port}" in seen.found[0].fix_en
        assert patient.look("ports", agent_runs=lambda: True).found == []
    assert Patient(tmp_path, server=f'{SERVER}listen = "127.0.0.1:0"\n').look("ports").found == []
    metrics = f'[metrics]\nenabled = true\nlisten = "127.0.0.1:{port}"\n'
    assert Patient(tmp_path, server=f'{SERVER}listen = "127.0.0.1:{port}"\n', more=metrics).look("ports").errors == [
        "H728",
        "H728",
    ]
    elsewhere = Patient(
        tmp_path,
        server=f'{SERVER}listen = "127.0.0.1:0"\n',
        more='[metrics]\nenabled = true\nlisten = "192.0.2.7:50162"\n',
    ).look("ports")
    assert [(item.code, item.where) for item in elsewhere.found] == [("H728", "[metrics] listen")]


# -- store ---------------------------------------------------------------------------------------------------


def make_store(patient: Patient) -> Path:
    async def make() -> None:
        store = open_store(path, utc_now)
        audit = Audit(store, utc_now)
        for number in range(3):
            await audit.append(AuditEntry(actor="t", action="a", target=str(number)))
        await store.close()

    path = patient.folder / "state" / "agent.db"
    path.parent.mkdir(exist_ok=True)
    asyncio.run(make())
    return path


def test_a_good_store(patient: Patient) -> None:
    assert "no store yet" in patient.look("store").facts
    make_store(patient)
    seen = patient.look("store")
    assert seen.found == []
    assert "the audit chain holds" in seen.facts


def test_money_that_waits_for_a_person(patient: Patient) -> None:
    path = make_store(patient)

    def fill(work: Transaction) -> None:
        now = utc_now()
        work.refunds.put(RefundRow("R1", "T1", "W1", 2500, RefundProgress.ABNORMAL, now, now, now))
        work.trades.put(TradeRow("W2", "T2", 2500, TradeState.UNCONFIRMED, now, now))

    async def wait() -> None:
        store = open_store(path, utc_now)
        await store.write(fill)
        await store.close()

    asyncio.run(wait())
    seen = patient.look("store")
    assert [finding.code for finding in seen.found] == ["H739", "H739"]
    assert seen.errors == []


def test_an_agent_at_work_is_noticed(patient: Patient) -> None:
    path = make_store(patient)
    assert patient.context().agent_runs() is False

    async def held() -> tuple[bool, list[str]]:
        store = open_store(path, utc_now)
        try:
            return await asyncio.to_thread(patient.context().agent_runs), (
                await asyncio.to_thread(patient.look, "store")
            ).errors
        finally:
            await store.close()

    assert asyncio.run(held()) == (True, [])


@pytest.mark.parametrize("how", ["nonsense", "page", "newer", "older", "audit"])
def test_a_store_that_is_not_good(how: str, patient: Patient) -> None:
    path = make_store(patient)
    if how == "nonsense":
        path.write_bytes(b"this is no database at all, " * 100)
    elif how == "page":
        content = bytearray(path.read_bytes())
        content[4096:12288] = b"\xff" * 8192
        path.write_bytes(content)
    else:
        statement = {
            "newer": "UPDATE alembic_version SET version_num = '9999'",
            "older": "UPDATE alembic_version SET version_num = '0007'",
            "audit": "UPDATE audit SET target = 'x' WHERE sequence = 2",
        }[how]
        with closing(sqlite3.connect(path)) as connection:
            for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {trigger}")
            connection.execute(statement)
            connection.commit()
    seen = patient.look("store")
    assert seen.errors == {"audit": ["H738"], "older": []}.get(how, ["H737"])
    assert seen.code == (0 if how == "older" else 1)
    if how == "older":
        assert "upgrades it" in seen.facts
        with closing(sqlite3.connect(path)) as connection:  # a look changes nothing
            assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0007",)


# -- mappings ------------------------------------------------------------------------------------------------


def test_mappings_that_are_wrong_are_78(patient: Patient) -> None:
    (patient.folder / "mappings" / "x.toml").write_text('schema = 1\noperation = "No.Such"\n', encoding="utf-8")
    seen = patient.look("mappings")
    assert seen.code == 78
    assert seen.found[0].where.startswith("x.toml:")


def test_the_published_mappings_are_looked_at(patient: Patient) -> None:
    """With use = "published" a broken folder is nobody's business until it is published."""
    patient.write('mapping.use = "published"\n' + HEAD + SQLITE + SERVER)
    file = patient.folder / "mappings" / "x.toml"
    assert cli.run(["mapping", "publish", "--config", str(patient.config), "--note", "first", "--author", "dba"]) == 0
    file.write_text('schema = 1\noperation = "No.Such"\n', encoding="utf-8")
    assert patient.look("mappings").errors == []


def test_a_key_of_a_payment_house_that_cannot_be_read(patient: Patient, tmp_path: Path) -> None:
    """The mappings name it, and nothing would read it before the first payment."""
    key = tmp_path / "key.pem"
    (patient.folder / "mappings" / "visitors.toml").write_text(
        MAPPING + f'note = "@file:{key.as_posix()}"\n', encoding="utf-8"
    )
    seen = patient.look("mappings")
    assert [(item.code, item.where) for item in seen.found] == [("H703", "visitors.toml:5:8")]
    key.write_text(SECRET, encoding="utf-8")
    seen = patient.look("mappings")
    assert seen.found == []
    assert "all 1 secrets" in seen.facts
    assert SECRET not in seen.facts


def test_folders_of_reports_and_dropped_files_are_looked_at(tmp_path: Path) -> None:
    patient = Patient(tmp_path)
    patient.write(HEAD.replace("false", "true") + SQLITE + SERVER + '[drop.window]\nfolder = "in"\n')
    facts = patient.look("disk").facts
    for where in ("[report] folder", "[drop.window] folder"):
        assert where in facts


def test_nats(tmp_path: Path) -> None:
    pytest.importorskip("nats")
    stream = f"his160_doctor_{secrets.token_hex(4)}"

    def looked(server: str) -> Seen:
        patient = Patient(tmp_path)
        nats = f'delivery.nats = {{ servers = ["{server}"], stream = "{stream}" }}\n'
        patient.write(HEAD.replace("pull", "nats") + nats + SQLITE + SERVER)
        return patient.look("relay")

    assert looked("nats://127.0.0.1:1").errors == ["H740"]
    seen = looked(nats_url())
    if seen.errors:
        unavailable("nats", f"{nats_url()} does not answer")
    assert f"stream {stream}: False" in seen.facts  # and it was not made
    assert f"stream {stream}: False" in looked(nats_url()).facts


def test_the_clock_of_the_machine_is_held_against_the_database(patient: Patient) -> None:
    for seconds, errors, notes in ((0, [], []), (20, [], ["H724"]), (-600, ["H724"], [])):
        off = timedelta(seconds=seconds)
        seen = patient.look(
            "sources", clock=lambda off=off: datetime.now(UTC) + off, source_limit=timedelta(seconds=0.2)
        )
        assert (seen.errors, seen.notes) == (errors, notes)
