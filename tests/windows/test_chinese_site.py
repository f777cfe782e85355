"""A site in a folder with Chinese characters and a space, on a Chinese Windows (code page 936): what a hospital has."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import openpyxl
import pytest

from agent.demo.site import free_port
from tests.e2e.site import until
from tests.e2e.walk import PAGES, Done, Walk, blocks_of
from tests.windows.session import Windows

pytestmark = [pytest.mark.windows, pytest.mark.slow, pytest.mark.timeout(1800)]

PLACE = r"C:\医院 接口\his160"
NAME = f"his160c{os.getpid()}"
SOON = 300.0
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
]
[[event]]
kind = "CANCELLED"
when = "state: BOOKED|new -> CANCELLED"
"""
MORE = """
[drop.windows]
folder = "投递 文件"
quiet = "500ms"
"""


def dropped(number: int) -> bytes:
    return f"流水号,订单号,状态\r\n{number},T{number},CANCELLED\r\n".encode("gbk")


class WindowsWalk(Walk):
    """The page's commands as processes on Windows."""

    def __init__(self, windows: Windows, folder: Path, page: str) -> None:
        super().__init__(folder, page)
        self._windows = windows

    def _run(self, command: str) -> Done:
        program, *words = shlex.split(command)
        assert program == "his160"
        done = self._windows.his160(*words, folder=self.folder)
        return Done(done.returncode, done.stdout + done.stderr)


@dataclass(frozen=True, slots=True)
class ChineseSite:
    """Commands in the folder of the configuration, which the manual calls ``site``."""

    windows: Windows
    folder: Path

    def say(self, *words: str, code: int = 0) -> str:
        """Standard output of ``his160 …``."""
        done = self.windows.his160(*words, folder=self.folder)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run(self, code: str) -> str:
        """Standard output of a program of the test."""
        done = self.windows.python("-X", "utf8", "-c", code, folder=self.folder)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def events(self) -> list[str]:
        """Orders of the events that were delivered, into files here."""
        files = sorted((self.folder / "事件 文件").glob("*.jsonl"))
        lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
        return [event["order_no"] for event in map(json.loads, lines) if event["kind"] == "EVENT_KIND_CANCELLED"]


@pytest.fixture(scope="module")
def site(windows: Windows) -> ChineseSite:
    """The first configuration, by every command of the manual of installation that is not of one system alone."""
    folder = windows.drive("医院 接口", "his160")
    where = windows.python("-c", "import os, sys; print(ascii(os.getcwd()), sys.stdin.encoding)", folder=folder)
    assert where.stdout.split("\n")[0] == f"{PLACE!a} gbk", where.stderr
    walk = WindowsWalk(windows, folder, "install.md")
    done = 0
    for block in blocks_of((PAGES / "install.md").read_text(encoding="utf-8")):
        if block.words[0] == "console":
            walk.do(block)
            done += 1
    assert done >= 4
    config = folder / "site" / "config.toml"
    text = config.read_text(encoding="utf-8")
    # The page's port may be taken: all tests of this machine share its ports.
    assert "50160" in text
    config.write_text(text.replace("50160", str(free_port())), encoding="utf-8")
    return ChineseSite(windows, folder / "site")


def test_the_doctor_asks_windows_itself(site: ChineseSite) -> None:
    report = json.loads(site.say("doctor", "--json"))
    assert report["errors"] == 0
    said = " ".join(fact["en"] or fact["zh"] for check in report["checks"] for fact in check["facts"])
    for word in ("Windows", "memory", "MB free", "is free", "time-outs work", "mappings are right"):
        assert word in said


def test_mappings_reports_audit_and_backup(site: ChineseSite) -> None:
    site.say("mapping", "check")
    site.say("mapping", "test")
    site.say("report", "run", "R1", "--format", "xlsx", "--format", "csv")
    (sheet,) = site.folder.rglob("R1_*.xlsx")
    shown = [
        value for row in openpyxl.load_workbook(sheet).active.iter_rows(max_row=4, values_only=True) for value in row
    ]
    assert any("挂号收入日报" in str(value) for value in shown)
    (table,) = site.folder.rglob("R1_*.csv")
    content = table.read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    assert any("渠道" in row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"))))
    assert PLACE in site.say("report", "export", "R1", "--format", "csv", "--to", rf"{PLACE}\报表 副本")
    (copy,) = (site.folder.parent / "报表 副本").iterdir()
    assert copy.read_bytes() == content
    # A sheet that is open in Excel cannot be replaced: it is said, and the old one stays whole.
    before = sheet.read_bytes()
    with site.windows.kept_open(str(sheet.relative_to(site.folder)), folder=site.folder):
        site.say("report", "export", "R1", code=1)
    assert sheet.read_bytes() == before
    assert [path.name for path in sheet.parent.iterdir() if path.name.endswith(".part")] == []
    site.say("audit", "verify")
    site.say("state", "backup", "备份 一.db")
    assert (site.folder / "备份 一.db").stat().st_size > 0
    site.say("state", "restore", "备份 一.db")
    site.say("state", "check")


def test_dropped_files_with_the_service(site: ChineseSite) -> None:
    """In GBK, as a Chinese Windows writes them; one is held open by the program that wrote it."""
    config = site.folder / "config.toml"
    good = config.read_text(encoding="utf-8")
    assert good.count('folder = "events"') == 1
    config.write_text(good.replace('"events"', '"事件 文件"') + MORE, encoding="utf-8")
    watch = site.folder / "mappings" / "watch" / "window_file.toml"
    watch.write_text(WATCH, encoding="utf-8")
    folder = site.folder / "投递 文件"
    try:
        site.say("service", "install", "--name", NAME, "--now")
        until(lambda: (folder / ".taken").is_dir(), "the folder for dropped files", SOON)
        with site.windows.kept_open(r"投递 文件\甲.csv", folder=site.folder, content=dropped(1)):
            (folder / "乙.csv.tmp").write_bytes(dropped(2))
            os.replace(folder / "乙.csv.tmp", folder / "乙.csv")
            until(lambda: site.events() == ["T2"], "the other file's event", SOON)
            # By now it has been quiet for long enough, and was tried.
            (folder / "丙.csv").write_bytes(dropped(3))
            until(lambda: site.events() == ["T2", "T3"], "the third file's event", SOON)
            assert (folder / "甲.csv").exists()
        until(lambda: site.events() == ["T2", "T3", "T1"], "the event of the file that was held open", SOON)
        assert sorted(path.name for path in (folder / "done").iterdir()) == sorted(["甲.csv", "乙.csv", "丙.csv"])
        assert "RUNNING" in site.say("service", "status", "--name", NAME)
    finally:
        site.say("service", "uninstall", "--name", NAME)
        config.write_text(good, encoding="utf-8")
        watch.unlink()
    assert site.windows.agents() == []


ROTATED = """
import json, logging
from pathlib import Path
from agent.log_file import RotatedFile
now, folder = [0.0], Path('日志 文件')
folder.mkdir()
handler = RotatedFile(folder / 'his160.log', max_bytes=300, backups=3, clock=lambda: now[0])
log = logging.Logger('test')
log.addHandler(handler)
def write(first, last):
    for number in range(first, last):
        log.error('%d 预约', number)
def files():
    return {path.name: path.read_text('utf-8').split()[::2] for path in sorted(folder.iterdir())}
with open(folder / 'his160.log'):
    write(0, 60)
    held = files()
now[0] = 61
write(60, 70)
print(json.dumps([held, files()]))
"""
MOVED = """
import threading
from pathlib import Path
from his_db.move import move
new, old = Path('新 文件'), Path('旧 文件')
new.write_text('new'), old.write_text('old')
reader = old.open()
timer = threading.Timer(0.3, reader.close)
timer.start()
move(new, old)
timer.join()
print(old.read_text())
with old.open():
    new.write_text('newer')
    try:
        move(new, old)
    except PermissionError:
        print('refused', new.exists())
"""


def test_a_log_that_is_open_in_a_viewer_goes_on(site: ChineseSite) -> None:
    """Windows' own rules of sharing; what follows from them is in tests/unit/agent/test_log.py."""
    held, after = json.loads(site.run(ROTATED))
    assert held == {"his160.log": [str(number) for number in range(60)]}
    assert after == {"his160.log": [str(n) for n in range(60, 70)], "his160.log.1": held["his160.log"]}


def test_a_file_that_is_read_is_replaced_when_it_is_let_go(site: ChineseSite) -> None:
    assert site.run(MOVED).split() == ["new", "refused", "True"]


def test_a_console_of_code_page_936_shows_everything(site: ChineseSite) -> None:
    code = (
        "import ctypes, sys; ctypes.windll.kernel32.SetConsoleOutputCP(936);"
        "from agent.cli import run; sys.exit(run(['mapping', 'check']))"
    )
    ended, seen = site.windows.on_console("-c", code, folder=site.folder)
    assert ended == 0, seen
    assert "错误 0，警告 0" in seen, seen
    assert "\\u" not in seen


def test_a_console_that_knows_only_its_code_page_loses_nothing(site: ChineseSite) -> None:
    """What GBK has not (a tick, a rare character of a name) is written as its number; nothing ends a command."""
    code = "from agent.console import prepare_console, say; prepare_console(); say('✓ 䶮 张三丰 预约')"
    old = {"PYTHONLEGACYWINDOWSSTDIO": "1"}
    ended, seen = site.windows.on_console("-c", code, folder=site.folder, environ=old)
    assert (ended, seen.strip()) == (0, r"\u2713 \u4dae 张三丰 预约")
