"""``python -m tests.bench``: what the agent costs beside doing the same without it, each figure a ratio of one run.

    python -m tests.bench [--quick] [--json FILE] [--his sqlite|postgresql]

Loopback only; ends only the processes that it started. The figures are explained in docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

from agent.demo.hospital import NoServer, create_hospital, remove_folder
from agent.demo.site import Site
from tests.bench import bare, calls, conversion, events, lanes, ledger, process, reload, sessions, watching
from tests.bench.baseline import Baseline
from tests.bench.figures import Figure, Report, against, describe_machine, load_average, table
from tests.bench.load import Caller, Target
from tests.bench.packs import LIST_SLOTS, Orders, record
from tests.bench.plan import FULL, QUICK, Plan
from tests.compiled import compile_all


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the command: 0 when everything was measured."""
    arguments = _parser().parse_args(argv)
    plan = QUICK if arguments.quick else FULL
    kinds = tuple(arguments.his or plan.kinds)
    report = Report(arguments.quick, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", describe_machine())
    report.load_before = load_average()
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="his160-bench-"))
    compile_all()
    try:
        _tell("rows to messages")
        report.figures += conversion.measure(plan)
        _tell("ledger")
        report.figures += ledger.measure(plan, folder / "ledger")
        for kind in kinds:
            machine = process.Machine()
            _one_his(plan, kind, folder / kind, report)
            server = "" if kind == "sqlite" else ", the database server's own work among it"
            report.notes.append(f"{kind}: other processes took {machine.others():.0f} % of the machine{server}")
    finally:
        remove_folder(folder)
    report.seconds = time.monotonic() - started
    report.load_after = load_average()
    print(_heading(report))
    print(table(report))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.as_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return 0


def _one_his(plan: Plan, kind: str, folder: Path, report: Report) -> None:
    """Everything that needs a sample HIS of that kind; one that cannot be had is said and left out."""
    folder.mkdir(parents=True)
    _tell(f"{kind}: sample HIS")
    try:
        hospital = create_hospital(kind, folder)
    except NoServer as error:
        report.notes.append(f"{kind} left out: {error}")
        return
    with ExitStack() as stack:
        stack.callback(hospital.remove)
        orders = Orders(hospital)
        recorded = record(hospital, orders)
        _tell(f"{kind}: sessions")
        report.figures += sessions.measure(plan, hospital)
        _tell(f"{kind}: lanes")
        report.figures += lanes.measure(plan, hospital)
        _tell(f"{kind}: watching 20 tables")
        report.figures += watching.measure(plan, hospital, folder / "watching")
        _tell(f"{kind}: agent and relay")
        site = stack.enter_context(Site(folder / "site", hospital))
        site.start()
        assert site.agent is not None
        pid = site.agent.pid
        targets = calls.agent_targets(site)
        fresh = process.memory(pid)
        answers = asyncio.run(calls.first_answers(orders, targets[0]))
        report.notes.append(
            f"{kind}: ListSlots answers {calls.slots_in(answers[LIST_SLOTS])} slots in {len(answers[LIST_SLOTS])} bytes"
        )
        baseline = stack.enter_context(Baseline(folder, site.pki.folder, answers))
        targets.append(Target(calls.TRIVIAL, f"127.0.0.1:{baseline.port}", site.pki))
        _tell(f"{kind}: idle for {plan.idle_seconds:.0f} s")
        report.figures += process.idle(kind, pid, baseline.pid, plan.idle_seconds, watched=_watched(site))
        pool = bare.BarePool(hospital)
        stack.callback(pool.close)
        bench = calls.Bench(plan, hospital, orders, recorded, {}, pool)
        _tell(f"{kind}: calls")
        with process.Watched(pid) as watched:
            report.figures += asyncio.run(_calls(bench, targets))
        report.figures.append(_under_load(kind, watched, fresh))
        _tell(f"{kind}: events")
        report.figures += events.measure(bench, site)
        report.figures += process.idle(kind, pid, baseline.pid, plan.idle_seconds / 2, watched=_watched(site))
        site.stop()
        _tell(f"{kind}: reload under load")
        report.figures += reload.measure(bench, folder / "reload")


async def _calls(bench: calls.Bench, targets: Sequence[Target]) -> list[Figure]:
    bench.callers = {target.name: Caller(target) for target in targets}
    try:
        return await calls.measure(bench)
    finally:
        for caller in bench.callers.values():
            await caller.close()


def _under_load(kind: str, watched: process.Watched, fresh: float) -> Figure:
    more = {"processor %": watched.share}
    base = (against("RSS at the start", watched.most, fresh),)
    return Figure(process.GROUP, "RSS under load, most", watched.most, "MB", {"his": kind}, base, more)


def _watched(site: Site) -> int:
    """How many orders the agent has in its store, which is how many it watches."""
    with closing(sqlite3.connect(f"{site.store.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM his_rows WHERE stream = 'orders'").fetchone()[0])


def _heading(report: Report) -> str:
    machine = report.machine
    lines = [
        f"his160 bench{' (quick)' if report.is_quick else ''}, {report.date}, {report.seconds:.0f} s; "
        f"load {report.load_before:.1f} before, {report.load_after:.1f} after",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}",
        "value ± half the range of the rounds · ratio = value ÷ baseline of the same run (baseline in brackets)",
        *report.notes,
    ]
    return "\n".join(lines)


def _tell(what: str) -> None:
    print(f"… {what}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="What the agent costs, as ratios.")
    parser.add_argument("--quick", action="store_true", help="a smoke test of at most 40 s, on SQLite only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as one JSON object")
    parser.add_argument("--his", action="append", choices=("sqlite", "postgresql"), help="only this sample HIS")
    return parser


if __name__ == "__main__":
    sys.exit(main())
