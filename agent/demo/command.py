"""``his160 demo``: sample HIS, relay and agent as processes of their own, the story of 160's main job, three books."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Final

from agent.demo import sample as sample_command
from agent.demo import window as window_command
from agent.demo.books import Books, compare, shown
from agent.demo.child import ChildFailed
from agent.demo.hospital import PACK_OF, Hospital, NoServer, create_hospital, remove_folder
from agent.demo.narrator import Narrator, console
from agent.demo.plot import STEPS
from agent.demo.reports import show_reports
from agent.demo.site import SITE, FolderTaken, NotInTime, Site, prepare_folder
from agent.demo.story import EarlierOrders, Result, StepFailed, make_earlier_orders, play, story_of
from agent.sandbox.client import CallFailed

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the command: 0 only when every step went well and the three books agree."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["window"]:
        return window_command.main(words[1:])
    if words[:1] == ["his"]:
        return sample_command.main(words[1:])
    arguments = _parser().parse_args(words)
    narrator = Narrator(None if arguments.json else console())
    signal.signal(signal.SIGTERM, _interrupt)
    folder = Path(arguments.workdir or tempfile.mkdtemp(prefix="his160-demo-")).absolute()
    try:
        prepare_folder(folder)
    except (FolderTaken, OSError) as error:
        print(f"his160 demo: {error}", file=sys.stderr)
        return EXIT_USAGE
    started = time.monotonic()
    try:
        report = _run(arguments, folder, narrator, started)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        if not arguments.workdir and not arguments.stay:
            remove_folder(folder)
    if arguments.json:
        print(json.dumps(report, ensure_ascii=False))
    return EXIT_OK if _went_well(report) else EXIT_FAILED


def _run(arguments: argparse.Namespace, folder: Path, narrator: Narrator, started: float) -> dict[str, Any]:
    """Make everything, play, compare, and leave nothing running."""
    results: list[Result] = []
    books: Books | None = None
    hospital: Hospital | None = None
    site: Site | None = None
    asked_to_stop = False
    try:
        hospital, earlier = _build(arguments, folder, narrator)
        site = Site(folder, hospital)
        begun = time.monotonic()
        site.start()
        results.append(Result("attach", True, f"sandbox and agent up in {time.monotonic() - begun:.1f} s"))
        _introduce(site, narrator)
        books = _play(site, hospital, earlier, narrator, results, Path(arguments.reports or folder / "reports"))
        _close(narrator, results, books)
        if arguments.stay:
            _stay(site, narrator)
    except (ChildFailed, NotInTime, NoServer, StepFailed, CallFailed) as error:
        results.append(Result("books" if results else "attach", False, f"{type(error).__name__}: {error}"))
        print(f"✗ {error}", file=sys.stderr)
    except KeyboardInterrupt:
        asked_to_stop = True
        raise
    finally:
        if site is not None:
            site.stop()
            if not (asked_to_stop or (books and books.consistent)):
                print(site.tails(), file=sys.stderr)
        if hospital is not None:
            hospital.remove()
    return _report(arguments.his, results, books, time.monotonic() - started)


def _build(arguments: argparse.Namespace, folder: Path, narrator: Narrator) -> tuple[Hospital, EarlierOrders]:
    narrator.heading("样例医院", "sample hospital")
    begun = time.monotonic()
    hospital = create_hospital(arguments.his, folder, small=arguments.small)
    made = hospital.summary
    narrator.fact("数据库", "HIS", f"{hospital.kind}, pack {hospital.pack}: {hospital.place}")
    narrator.fact(
        "数据",
        "data",
        f"{made.departments} 科室 departments, {made.doctors} 医生 doctors, {made.slots} 号 slots, "
        f"{made.patients} 患者 patients, {made.registrations} 挂号 registrations "
        f"({time.monotonic() - begun:.1f} s)",
    )
    return hospital, make_earlier_orders(hospital)


def _introduce(site: Site, narrator: Narrator) -> None:
    assert site.agent is not None
    assert site.sandbox is not None
    narrator.heading("三个进程", "processes")
    narrator.fact("160 中继（沙箱）", "relay sandbox", f"pid {site.sandbox.pid}, {site.relay_address}")
    narrator.fact("院内代理", "agent", f"pid {site.agent.pid}, site {SITE}, dialled out and attached")
    narrator.fact("工作目录", "folder", str(site.folder))
    narrator.heading("经过", "story (+ new row, ~ changed columns: before → after)")


def _play(
    site: Site, hospital: Hospital, earlier: EarlierOrders, narrator: Narrator, results: list[Result], reports: Path
) -> Books | None:
    """The steps, then reports and books. None when a step failed."""
    window = hospital.window()
    try:
        story = story_of(site, window, earlier)
        results += play(story, STEPS, narrator)
        if not all(result.ok for result in results):
            return None
        books = compare(site, story)
        results += show_reports(site, story, reports.absolute(), narrator)
    finally:
        window.close()
    detail = f"{len(books.orders)} orders, " + ("no difference" if books.consistent else "; ".join(books.differences))
    results.append(Result("books", books.consistent, detail))
    return books


def _close(narrator: Narrator, results: Sequence[Result], books: Books | None) -> None:
    if books is not None:
        narrator.heading("三本账", "three books: state paid/refunded 分")
        rows = [
            (number, *(shown(book.get(number)) for book in (books.his, books.ledger, books.relay)))
            for number in books.orders
        ]
        narrator.table(("订单 order", "HIS", "代理台账 ledger", "中继 relay"), rows)
        for difference in books.differences:
            narrator.line(f"  ✗ {difference}")
    done = sum(result.ok for result in results)
    good = books is not None and books.consistent and done == len(results)
    narrator.line()
    narrator.line(f"{'✓ 全部一致 all agree' if good else '✗ 有问题 something is wrong'}: {done}/{len(results)} steps")


def _stay(site: Site, narrator: Narrator) -> None:
    """Keep running until Ctrl-C, and say what can be done meanwhile."""
    own = f"his160 demo window --workdir {site.folder}"
    narrator.heading("继续", "play on until Ctrl-C")
    for text in (
        f"his160 call CatalogService.ListDepartments --target {site.control_address} --insecure",
        f"his160 status --config {site.config} --certs {site.pki.folder} --as operator",
        f"his160 outbox list --config {site.config}",
        f"{own} list",
        f"{own} cancel|refund|check-in|visit ORDER",
        f"{own} suspend|resume ORDER-OR-SESSION",
    ):
        narrator.line(f"  {text}")
    pause = threading.Event()
    try:
        while all(child is not None and child.running for child in (site.agent, site.sandbox)):
            pause.wait(0.5)  # not for ever: Windows hears Ctrl-C between two waits only
    except KeyboardInterrupt:
        narrator.line("停止 stopping")
        return
    raise ChildFailed("agent or sandbox has ended")


def _report(his: str, results: Sequence[Result], books: Books | None, seconds: float) -> dict[str, Any]:
    empty = {"consistent": False, "his": 0, "ledger": 0, "relay": 0, "differences": ["not compared"]}
    return {
        "his": his,
        "steps": [asdict(result) for result in results],
        "books": books.summary() if books is not None else empty,
        "seconds": round(seconds, 2),
    }


def _went_well(report: dict[str, Any]) -> bool:
    return bool(report["books"]["consistent"]) and all(step["ok"] for step in report["steps"])


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the demo as Ctrl-C does: its processes are stopped."""
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="his160 demo",
        description="Plays the whole product on a sample HIS. 在样例医院上演示全流程。",
        epilog="his160 demo window --help: a hand at the hospital's window while --stay runs; his160 demo his: the HIS",
    )
    parser.add_argument("--his", choices=sorted(PACK_OF), default="sqlite", help="sample HIS (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")
    parser.add_argument("--stay", action="store_true", help="keep everything running until Ctrl-C")
    parser.add_argument("--workdir", help="folder to use and keep; default: a temporary one")
    parser.add_argument("--reports", metavar="DIR", help="folder for the report files; default: in the demo's folder")
    parser.add_argument("--small", action="store_true", help="a small hospital, made faster")
    return parser
