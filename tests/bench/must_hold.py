"""``python -m tests.bench.must_hold``: what issue 5 says must hold of delivery, each figure beside a baseline of the same run.

    python -m tests.bench.must_hold [--quick] [--json FILE] [PART …]

Parts: ``capture``, ``drain``, ``stalled``, ``latency``, ``link``, ``queued``. The figures are explained in docs/reliability.md, "Must hold".
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from agent.bench_pki import make_bench_pki
from agent.demo.hospital import NoServer, create_hospital, remove_folder
from agent.demo.site import SITE
from tests.bench import capturing, draining, latency, link_loss, process, queued, stalled
from tests.bench.figures import Figure, Report, describe_machine, load_average, table
from tests.bench.relay_process import RelayProcess


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much a run measures."""

    rounds: int
    changes: int
    events: int
    seconds: float
    singles: int
    losses: int
    waiting: int


FULL: Final = Sizes(rounds=5, changes=5000, events=10_000, seconds=1.5, singles=60, losses=5, waiting=1_000_000)
QUICK: Final = Sizes(rounds=1, changes=1000, events=2000, seconds=0.5, singles=8, losses=1, waiting=20_000)


def capture(sizes: Sizes, folder: Path) -> list[Figure]:
    """Rows a second from the HIS into the outbox."""
    return capturing.measure(folder, sizes.changes, sizes.rounds)


def drain(sizes: Sizes, folder: Path) -> list[Figure]:
    """Events a second from the outbox to the relay."""
    pki = make_bench_pki(folder / "pki", site=SITE)
    with RelayProcess(pki.folder, folder / "relay" / "events.journal") as relay:
        work = draining.measure(pki, folder / "stores", relay.addresses, sizes.events, sizes.rounds)
        return asyncio.run(work)


def stall(sizes: Sizes, folder: Path) -> list[Figure]:
    """Percentiles of calls beside a report that nobody reads."""
    pki = make_bench_pki(folder / "pki", site=SITE)
    with RelayProcess(pki.folder, folder / "relay" / "events.journal") as relay:
        both, rounds = (relay.addresses, relay.others), 2 * sizes.rounds
        work = stalled.measure(pki, folder / "store", both, relay.hears, sizes.seconds, rounds)
        return asyncio.run(work)


def delay(sizes: Sizes, folder: Path) -> list[Figure]:
    """Milliseconds from a commit to the ack, polling and woken, on each engine that gives signals."""
    pki = make_bench_pki(folder / "pki", site=SITE)
    figures: list[Figure] = []
    with RelayProcess(pki.folder, folder / "relay" / "events.journal") as relay:
        for kind in ("sqlite", "postgresql"):
            place = folder / kind
            place.mkdir()
            try:
                hospital = create_hospital(kind, place)
            except NoServer as error:
                _tell(f"{kind} left out: {error}")
                continue
            try:
                pace = latency.Pace(sizes.singles)
                work = latency.measure(pki, place, relay.addresses["relay"], kind, hospital.url, pace, note=_tell)
                figures += asyncio.run(work)
            finally:
                hospital.remove()
    return figures


def loss(sizes: Sizes, folder: Path) -> list[Figure]:
    """Seconds until a dead link is seen, and until it stands again."""
    pki = make_bench_pki(folder / "pki", site=SITE)
    with RelayProcess(pki.folder, folder / "relay" / "events.journal") as relay:
        return asyncio.run(link_loss.measure(pki, relay.addresses["relay"], timedelta(seconds=1), sizes.losses))


def start(sizes: Sizes, folder: Path) -> list[Figure]:
    """Seconds to the first batch with very many events waiting."""
    return queued.measure(folder, sizes.waiting, sizes.rounds)


def _tell(text: str) -> None:
    print(f"… {text}", file=sys.stderr, flush=True)


PARTS: Final[dict[str, Callable[[Sizes, Path], list[Figure]]]] = {
    "capture": capture,
    "drain": drain,
    "stalled": stall,
    "latency": delay,
    "link": loss,
    "queued": start,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the command: 0 when everything was measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.must_hold")
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as one JSON object")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    report = Report(arguments.quick, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", describe_machine())
    report.load_before = load_average()
    machine, started = process.Machine(), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="his160-must-hold-"))
    try:
        for part in arguments.parts or PARTS:
            _tell(part)
            report.figures += PARTS[part](QUICK if arguments.quick else FULL, folder / part)
    finally:
        remove_folder(folder)
    report.seconds, report.load_after = time.monotonic() - started, load_average()
    report.notes.append(f"other processes took {machine.others():.0f} % of the machine")
    print(
        f"{report.date}, {report.seconds:.0f} s; load {report.load_before:.1f} before, {report.load_after:.1f} after; "
        f"{report.notes[0]}; {report.machine['processor']}, {report.machine['cores']} cores"
    )
    print(table(report))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.as_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
