"""kill -9 at labelled points of capture and delivery, in real processes: nothing is lost, nothing has two ids."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from sync.clock import utc_now
from sync.outbox import Outbox
from sync.stores.sqlite import SqliteStore
from tests.bounds import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
# Writes of the victim: 1 the baseline; 2 the events with their rows; 3 their receipts; 4 and 5 the same again.
POINTS = ("inside:1", "inside:2", "after:2", "before:3", "after:3", "after:4")
# With a change a transaction: 2 and 3 are the first two orders, 3 is made while 2 is committed; 4 their receipts; 5 and 6.
IN_PARTS = ("before:2", "inside:2", "after:2", "making:2", "before:3", "inside:3", "after:3", "before:4", "after:4")
IN_PARTS += ("inside:5", "after:5", "after:6")

pytestmark = [pytest.mark.chaos, pytest.mark.skipif(os.name != "posix", reason="fork and SIGKILL")]


@pytest.mark.parametrize(("chunk", "points"), [(500, POINTS), (1, IN_PARTS)])
async def test_killed_at_every_write(tmp_path: Path, chunk: int, points: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance.watch_victim", str(tmp_path), str(chunk), *points],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto' / 'gen'}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    came_again = 0
    for at, point in enumerate(points):
        ids: dict[str, list[str]] = defaultdict(list)
        for line in (tmp_path / str(at) / "book").read_text(encoding="utf-8").splitlines():
            event_id, order_no = line.split(" ")
            ids[order_no].append(event_id)
        assert sorted(ids) == ["T1", "T2", "T3"], point
        assert all(len(set(found)) == 1 for found in ids.values()), (point, ids)
        came_again += sum(len(found) - 1 for found in ids.values())
        store = SqliteStore(tmp_path / str(at) / "state.db", utc_now)
        counts = await Outbox(store, utc_now).counts()
        await store.close()
        assert (counts.pending, counts.dead, counts.acked) == (0, 0, 3), point
    assert came_again > 0  # a receipt that was not written down: sent again with the same id
