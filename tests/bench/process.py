"""Memory and processor time of the agent's process."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from tests.bench.figures import Figure, against, middle

GROUP: Final = "the agent's process"
_MEGABYTE: Final = 1024 * 1024
_EVERY: Final = 0.1


def memory(pid: int) -> float:
    """Resident memory in MB."""
    return float(psutil.Process(pid).memory_info().rss) / _MEGABYTE


@dataclass(frozen=True, slots=True)
class Share:
    """Processor time as percent of one core: the middle of the windows, the least of them, half their range as a share
    of the middle."""

    middle: float
    least: float
    noise: float | None


def processor(pid: int, seconds: float, windows: int = 8) -> Share:
    """Over that long, in windows one after the other. Where a machine is shared the least window is the best word on
    what the process costs by itself; on a quiet one it and the middle agree."""
    process = psutil.Process(pid)
    shares = []
    for _ in range(windows):
        before, started = _counted(process), time.monotonic()
        threading.Event().wait(seconds / windows)
        shares.append((_counted(process) - before) / (time.monotonic() - started) * 100)
    value, noise = middle(shares)
    return Share(value, min(shares), noise)


def _counted(process: psutil.Process) -> float:
    """Seconds. On Linux what the scheduler has counted, to the nanosecond: the ticks of ``cpu_times`` are 10 ms, as much
    as an idle agent uses in one second. Of threads that have ended it knows nothing; an idle agent ends none."""
    try:
        tasks = [task / "schedstat" for task in Path(f"/proc/{process.pid}/task").iterdir()]
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
    except (OSError, ValueError, IndexError):
        return _used(process)


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def idle(kind: str, pid: int, baseline_pid: int, seconds: float, *, watched: int) -> list[Figure]:
    """Memory beside the trivial handler's process, and the processor with nothing but two watches at 500 ms."""
    share = processor(pid, seconds)
    resident = memory(pid)
    params: dict[str, str | int] = {"his": kind, "orders watched": watched}
    return [
        Figure(
            GROUP,
            "RSS idle",
            resident,
            "MB",
            params,
            (against("trivial handler's process", resident, memory(baseline_pid)),),
        ),
        processor_figure("processor idle, 2 watches at 500 ms", share, params),
    ]


def processor_figure(name: str, share: Share, params: dict[str, str | int]) -> Figure:
    """A line of the table."""
    return Figure(GROUP, name, share.middle, "% of a core", params, (), {"least": share.least}, share.noise)


class Machine:
    """How much of the machine processes that are not ours took: the honest word on noise."""

    def __init__(self) -> None:
        self._busy, self._all, self._own = _machine()

    def others(self) -> float:
        """Percent of all cores since it was made. Children count as ours once they have ended; a database server of
        the machine never does."""
        busy, everything, own = _machine()
        used = max(0.0, (busy - self._busy) - (own - self._own))
        return used / max(0.001, everything - self._all) * 100


def _machine() -> tuple[float, float, float]:
    """Seconds of all cores: busy, in all; and those of this process and its ended children."""
    times = psutil.cpu_times()
    idle_seconds = float(times.idle + getattr(times, "iowait", 0.0))
    everything = float(sum(times[:8]))  # guest time is in user time already
    own = os.times()
    return everything - idle_seconds, everything, own.user + own.system + own.children_user + own.children_system


class Watched:
    """``with Watched(pid) as watched``: the most memory and the processor share meanwhile."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="bench-memory", daemon=True)
        self._started = time.monotonic()
        self._used = _used(self._process)
        self.most = 0.0
        self.share = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._process.is_running():
            self.share = (_used(self._process) - self._used) / (time.monotonic() - self._started) * 100

    def _look(self) -> None:
        while not self._stop.wait(_EVERY):
            try:
                self.most = max(self.most, self._process.memory_info().rss / _MEGABYTE)
            except psutil.NoSuchProcess:
                return
