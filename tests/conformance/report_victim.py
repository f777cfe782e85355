"""A program that runs a scheduled report and writes its file, and is killed by SIGKILL at a labelled point; then again.

    python -m tests.conformance.report_victim FOLDER inside:3 after:3 reading …

For each point: a process of its own works until it kills itself, a second one works to the end. FOLDER/<n> then holds
``state.db``, the file in ``reports``, and ``left``: what lay in ``reports`` after the kill.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from agent.config_report import ReportSettings
from agent.report_files import ReportFiles
from sync.outbox import Outbox
from sync.report_export import Exporter
from sync.report_ready import ReportReady
from sync.report_schedule import ReportSchedule
from sync.store import Transaction
from sync.stores.sqlite import SqliteStore
from tests.conformance.watch_victim import Killing
from tests.unit.reports.bench import ZONE, Hand, bed

T = TypeVar("T")


class KillingReads(Killing):
    """Also ends the process when rows of a run are read for its file, which is open then (``reading``)."""

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        if self._label == "reading" and unit.__qualname__.startswith("kept_pages"):
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().read(unit)


async def work(folder: Path, point: str) -> None:
    """What the agent does at a look: files that are missing, then what is due, with its file."""
    clock = Hand()
    store = SqliteStore(folder / "state.db", clock)
    killing: Any = KillingReads(store, point)
    settings = ReportSettings(enabled=True, folder=folder / "reports", files=("csv", "xlsx"))
    files = ReportFiles(settings, killing, Exporter(killing, "样例医院", ZoneInfo(ZONE)), clock)
    async with bed(folder, store, clock, more='schedule = "30 6 * * *"') as here:
        here.runs._ready = ReportReady("H1", Outbox(store, clock).appended)
        schedule = ReportSchedule(
            here.runs.over(killing),
            clock=clock,
            catch_up=timedelta(days=7),
            publish=False,
            files=files.wanted,
            finished=files.write,
        )
        await files.look()
        await schedule.tick()
    await store.close()


def forked(folder: Path, point: str) -> int:
    """Its wait status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio.run(work(folder, point))
            status = 0
        except BaseException:  # noqa: BLE001 - a forked child ends here, whatever happens
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def main(root: Path, points: Sequence[str]) -> int:
    for at, point in enumerate(points):
        folder = root / str(at)
        folder.mkdir()
        status = forked(folder, point)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            print(f"{point}: never came there", file=sys.stderr)
            return 1
        place = folder / "reports"
        left = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
        (folder / "left").write_text("\n".join(left), encoding="utf-8")
        if forked(folder, "never") != 0:
            print(f"{point}: did not come to its end", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
