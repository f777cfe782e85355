"""Running checks: all at once, each in a thread of its own, each bounded in time; one that fails stops no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.doctor.check import Check, Context
from agent.doctor.finding import Finding, Findings
from agent.doctor.registry import load
from agent.log import frames
from his_db.document.problem import Severity

EXIT_OK: Final = 0
EXIT_FINDINGS: Final = 1
EXIT_CONFIG: Final = 78
_NO_SOURCE: Final = "H500"


@dataclass(frozen=True, slots=True)
class Examined:
    """What one check saw, and how long it took (seconds)."""

    area: str
    name: str
    findings: Findings
    seconds: float


class _Running:
    """One check under way. A thread that never comes back is left to the end of the process."""

    def __init__(self, area: str, check: Check, context: Context) -> None:
        self.area = area
        self.check = check
        self._context = context
        self._done: Findings | None = None
        self._began = time.monotonic()
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._run, name=f"doctor {area} {check.name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            found = self.check.act(self._context)
        except Exception as error:  # noqa: BLE001 - the border of a check: its defect is a finding, others go on
            found = _failed(self.check.name, frames(error))
        self._seconds = time.monotonic() - self._began
        self._done = found

    def result(self) -> Examined:
        """Wait for it, at most until its limit."""
        limit = self.check.limit.total_seconds()
        self._thread.join(max(0.0, self._began + limit - time.monotonic()))
        if self._done is None:
            return Examined(self.area, self.check.name, _late(self.check.name, limit), limit)
        return Examined(self.area, self.check.name, self._done, self._seconds)


def examine(context: Context, areas: Sequence[str], told: Callable[[Examined], None] | None = None) -> list[Examined]:
    """Every check of these areas; ``told`` hears of each in order. The same finding is told once."""
    running: list[_Running] = []
    for area in areas:
        try:
            checks = load(area)(context)
        except Exception as error:  # noqa: BLE001 - as above: an area that cannot even list its checks
            failed = _failed(area, frames(error))
            checks = [Check(area, lambda _, failed=failed: failed)]  # type: ignore[misc]  # the default is the value
        running.extend(_Running(area, check, context) for check in checks)
    seen: set[object] = set()
    found: list[Examined] = []
    for one in running:
        result = one.result()
        result.findings.found[:] = [finding for finding in result.findings.found if _essence(finding) not in seen]
        seen.update(map(_essence, result.findings.found))
        found.append(result)
        if told is not None:
            told(result)
    return found


def _essence(finding: Finding) -> object:
    """What makes findings the same. A source that cannot be used is one finding, whoever met it and whatever its driver
    said at that moment."""
    return (finding.code, finding.where) if finding.code == _NO_SOURCE else finding


def exit_code(results: Sequence[Examined]) -> int:
    """0: nothing but warnings; 78: an agent would not start with this configuration; 1: other errors."""
    errors = [item for one in results for item in one.findings.found if item.severity is Severity.ERROR]
    if any(item.is_configuration for item in errors):
        return EXIT_CONFIG
    return EXIT_FINDINGS if errors else EXIT_OK


def _failed(name: str, trace: str) -> Findings:
    found = Findings()
    found.wrong(
        "H720",
        name,
        f"这项检查自身出错：{trace}",
        f"the check itself failed: {trace}",
        "请把这一行发给 160 技术支持；其他检查不受影响",
        "report this line; the other checks are not affected",
    )
    return found


def _late(name: str, seconds: float) -> Findings:
    found = Findings()
    found.wrong(
        "H720",
        name,
        f"{seconds:g} 秒内没有结果，已放弃",
        f"no result within {seconds:g} s: given up",
        "对方主机或网络可能没有反应；单独再试：his160 doctor --only",
        "the machine or the network may not respond; try it alone: his160 doctor --only",
    )
    return found
