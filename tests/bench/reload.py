"""Reload under load: ListSlots while the mapping set is changed every second, beside the same without changes.

An agent of its own on a copy of the pack in a folder that it watches. A change is a comment at the end of one file: a
new revision, therefore the whole way: wait until quiet, copy, load, check, compile, canary reads, switch. The file is in
turn an operation, a watch (whose rows are read anew) and a code map (with which everything is compiled anew).
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from pathlib import Path
from statistics import median
from typing import Final

from agent.config_place import packs_folder
from agent.demo.site import Site
from tests.bench.calls import Bench
from tests.bench.figures import Figure, middle, paired
from tests.bench.load import Caller, Sample, Target
from tests.bench.packs import LIST_SLOTS

GROUP: Final = "reload under load"
IN_FLIGHT: Final = 8
_EVERY: Final = 1.0
_EDITED: Final = ("catalog/list_departments.toml", "watch/orders.toml", "codes/*.toml")
_SWITCHED: Final = "mappings switched"


def measure(bench: Bench, folder: Path) -> list[Figure]:
    """Calls a second with a reload each second; every call must succeed, and the mapping set must really change."""
    mappings = folder / "mappings"
    with Site(folder, bench.hospital) as site:
        shutil.copytree(packs_folder() / bench.hospital.pack / "mappings", mappings)
        site.start_sandbox()
        site.write_config()
        text = site.config.read_text(encoding="utf-8")
        own = f'path = "pack:{bench.hospital.pack}"'
        site.config.write_text(text.replace(own, 'path = "mappings"\nquiet = "50ms"'), encoding="utf-8")
        log = site.start_agent().log
        site.wait_attached()
        site.wait_watching()
        return [asyncio.run(_figure(bench, Target("server border", site.server, site.pki), mappings, log))]


async def _figure(bench: Bench, target: Target, mappings: Path, log: Path) -> Figure:
    caller = Caller(target)
    request = bench.orders.list_slots().SerializeToString()
    still: list[Sample] = []
    edited: list[Sample] = []
    seconds = bench.plan.reload_seconds
    try:
        await caller.run_for(LIST_SLOTS, request, IN_FLIGHT, 0.5)
        before = _switches(log)
        for _ in range(bench.plan.rounds):
            still.append(await caller.run_for(LIST_SLOTS, request, IN_FLIGHT, seconds))
            editor = asyncio.create_task(_edit(mappings))
            try:
                edited.append(await caller.run_for(LIST_SLOTS, request, IN_FLIGHT, seconds))
            finally:
                editor.cancel()
            await asyncio.sleep(1.0)  # the last change comes in before the next round without
        switches = _switches(log) - before
    finally:
        await caller.close()
    if switches < bench.plan.rounds:
        raise AssertionError("the mappings did not change under load")
    rates = [sample.rate for sample in edited]
    value, noise = middle(rates)
    p99, base_p99 = (median([sample.ms(0.99) for sample in found]) for found in (edited, still))
    worst = max(sample.ms(1.0) for sample in edited)
    base_worst = max(sample.ms(1.0) for sample in still)
    params: dict[str, str | int] = {"his": bench.hospital.kind, "in flight": IN_FLIGHT}
    more = {"reloads": float(switches), "p99 ms": p99, "p99 still": base_p99, "max ms": worst, "max still": base_worst}
    return Figure(
        GROUP,
        "ListSlots, a reload each second",
        value,
        "/s",
        params,
        (paired("no reloads", rates, [sample.rate for sample in still]),),
        more,
        noise,
    )


async def _edit(mappings: Path) -> None:
    """Change one file each second, until cancelled."""
    files = [next(iter(sorted(mappings.glob(pattern)))) for pattern in _EDITED]
    originals = [path.read_bytes() for path in files]
    for number in itertools.count():
        at = number % len(files)
        await asyncio.to_thread(files[at].write_bytes, originals[at] + f"\n# {number}\n".encode())
        await asyncio.sleep(_EVERY)


def _switches(log: Path) -> int:
    return log.read_text(encoding="utf-8", errors="replace").count(_SWITCHED)
