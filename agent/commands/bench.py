"""``his160 bench rush``: a 放号 rush on a sample HIS, through a relay on the bench. 0 only when the books are right."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.console import say, say_error
from agent.demo.child import ChildFailed
from agent.demo.hospital import ALL_PACKS, NoServer, remove_folder
from agent.demo.site import NotInTime
from agent.rush.caller import OutOfTime
from agent.rush.readers import Crowd
from agent.rush.rush import Plan, Report, run
from agent.rush.stage import TooSmall, stage
from agent.sandbox.client import CallFailed

_BOOKERS: Final = 4
_READERS: Final = 32


def main(arguments: Sequence[str]) -> int:
    """Build, rush, compare, remove. Exit code 1: the books are wrong, or it could not be done."""
    options = _parser().parse_args(arguments)
    crowd = Crowd(options.bookings, _BOOKERS, _READERS) if options.bookings else None
    plan = Plan(
        patients=options.patients,
        slots=options.slots,
        pays=options.pays / 100,
        spread=options.spread,
        seconds=options.seconds,
        seed=options.seed if options.seed is not None else int(time.time()),
        crowd=crowd,
    )
    folder = Path(tempfile.mkdtemp(prefix="his160-rush-"))
    try:
        with stage(options.his, folder, url=options.url) as made:
            report = run(made, plan)
    except (NoServer, ChildFailed, NotInTime, CallFailed, TooSmall, OutOfTime) as error:
        say_error("压测未能完成", f"{type(error).__name__}: {error}")
        return 1
    finally:
        remove_folder(folder)
    if options.json:
        print(json.dumps({"his": options.his, "seed": plan.seed, **report.summary()}, ensure_ascii=False))
    else:
        _tell(report)
    return 0 if report.verdict.is_right else 1


def _tell(report: Report) -> None:
    """The report for a person."""
    fair, verdict = report.fairness, report.verdict
    ends = ", ".join(f"{name} {count}" for name, count in sorted(report.ends.items()))
    say(
        f"{report.patients} 人抢 {report.numbers} 个号，{report.seconds:.1f} 秒",
        f"rush of {report.patients} on {report.numbers}",
    )
    print(f"  结局 ends           {ends}")
    print(
        f"  账目 books          超卖 oversold {verdict.oversold}, 丢失 lost {verdict.lost}, "
        f"重复 duplicate {verdict.duplicate}, 多出 unasked {verdict.unasked}"
    )
    for case in verdict.cases:
        print(f"    {case}")
    print(
        f"  查询 queries        {report.reads.calls}, p50 {report.reads.p50:.0f} ms, p99 {report.reads.p99:.0f} ms; "
        f"HIS {report.statements:.0f} 条语句 statements, {report.requests_per_statement:.1f} 次请求/条 requests each"
    )
    booked = report.bookings
    print(f"  预约 bookings       {booked.calls}, p50 {booked.p50:.0f} ms, p99 {booked.p99:.0f} ms")
    print(
        f"  公平 fairness       先到先得 in order {fair.in_order:.0%} (抽签 by chance {fair.by_chance:.0%}), "
        f"最长等待 worst wait {fair.worst_wait:.1f} s"
    )
    if report.comparison is not None:
        found = report.comparison
        print(
            f"  读写互不影响 readers  预约 p99 booking p99 {found.without.p99:.0f} → {found.with_readers.p99:.0f} ms "
            f"(× {found.ratio:.2f}), {found.reads.calls} 次查询 reads"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="his160 bench", description="压力演练 / load on a sample HIS")
    actions = parser.add_subparsers(dest="action", required=True, metavar="rush")
    rush = actions.add_parser("rush", help="放号抢号 / many patients, few numbers, one moment")
    rush.add_argument("--patients", type=int, default=2000, metavar="N", help="患者数 / patients (2000)")
    rush.add_argument("--slots", type=int, default=200, metavar="M", help="放出的号数 / numbers released (200)")
    rush.add_argument("--his", choices=tuple(ALL_PACKS), default="sqlite", help="样例 HIS / sample HIS (sqlite)")
    rush.add_argument("--url", default="", help="用这个空库 / an empty database to make the HIS in")
    rush.add_argument("--pays", type=int, default=30, metavar="PERCENT", help="当场支付的比例 / who pay at once (30)")
    rush.add_argument(
        "--spread", type=float, default=1.0, metavar="S", help="多少秒内全部到达 / all arrive within (1.0)"
    )
    rush.add_argument("--seconds", type=float, default=120.0, metavar="S", help="最长时间 / most time (120)")
    rush.add_argument(
        "--bookings",
        type=int,
        default=400,
        metavar="N",
        help="有无查询对比的预约数，0 = 不比 / of the comparison (400)",
    )
    rush.add_argument("--seed", type=int, metavar="N", help="随机种子 / seed (time)")
    rush.add_argument("--json", action="store_true", help="输出 JSON / one JSON object")
    return parser
