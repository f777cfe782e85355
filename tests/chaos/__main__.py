"""``make chaos``: the full run. Prints one table and writes it as a page; ends with 1 when any invariant was broken.

With ``--journal`` every case is on disk when it has been played: a run that is ended (``--minutes``, SIGTERM, Ctrl-C,
power) has its table all the same (``--table`` makes it), and the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tests.chaos.campaign import FULL, POINTS, REDUCED, SHORT, Campaign, Stopped, rows_of
from tests.chaos.house_scenes import HOUSE_SCENES
from tests.chaos.journal import Journal, read_journal
from tests.chaos.process import ROOT
from tests.chaos.scenes import SCENES
from tests.chaos.site import PACK_OF, chaos_site
from tests.chaos.table import console, markdown
from tests.compiled import compile_all

_EXTENTS = {extent.name: extent for extent in (FULL, POINTS, REDUCED, SHORT)}
_PREFACE = Path(__file__).with_name("preface.md")


def main() -> int:
    """Run the campaigns of the engines named, each on a hospital of its own."""
    options = _options()
    compile_all()
    with tempfile.TemporaryDirectory() as folder:
        path: Path = options.journal or Path(folder) / "journal.jsonl"
        if not options.table:
            _run(options, Journal(path, _commit()))
        entries = read_journal(path)
    rows = rows_of(entries)
    print(console(rows))
    for row in rows:
        for where, finding in row.findings:
            print(f"{row.engine} {where}: {finding}")
    if options.markdown is not None:
        remarks = options.remarks.read_text(encoding="utf-8") if options.remarks else ""
        options.markdown.write_text(markdown(entries, _PREFACE.read_text(encoding="utf-8"), remarks), encoding="utf-8")
    return 1 if any(row.findings for row in rows) else 0


def _run(options: argparse.Namespace, journal: Journal) -> None:
    seed = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    check = _until(options.minutes)
    for name in options.engines:
        engine, _, extent = name.partition(":")
        scenes = [scene for scene in (HOUSE_SCENES if engine.endswith("+") else SCENES) if _wanted(options, scene.name)]
        try:
            check()
        except Stopped:
            _tell(f"{name} not begun")
            continue
        folder = Path(tempfile.mkdtemp(prefix="his160-chaos-"))
        with chaos_site(engine.removesuffix("+"), folder, with_houses=engine.endswith("+")) as site:
            campaign = Campaign(
                site,
                _EXTENTS[extent or FULL.name],
                seed=seed,
                scenes=scenes,
                tell=_tell,
                journal=journal,
                check=check,
            )
            rows = campaign.run()
        if not any(row.findings for row in rows):
            shutil.rmtree(folder)
        else:
            _tell(f"evidence: {folder}")


def _wanted(options: argparse.Namespace, scene: str) -> bool:
    return not options.scene or scene in options.scene


def _until(minutes: float | None) -> Callable[[], None]:
    """What raises Stopped once the time is over or somebody ends the run: the case that is being played is played."""
    ends = time.monotonic() + minutes * 60 if minutes else float("inf")
    ended: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        ended.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)

    def check() -> None:
        if ended or time.monotonic() >= ends:
            raise Stopped

    return check


def _commit() -> str:
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return asked.stdout.strip() or "unknown"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    usual = ["sqlite", "postgresql", "mysql:reduced", "sqlite+", "postgresql+", "mysql+:reduced"]
    every = [*PACK_OF, *(f"{engine}+" for engine in PACK_OF)]
    choices = [f"{engine}{extent}" for engine in every for extent in ("", *(f":{name}" for name in _EXTENTS))]
    scenes = [scene.name for scene in (*SCENES, *HOUSE_SCENES)]
    parser.add_argument("engines", nargs="*", default=usual, metavar="ENGINE[:EXTENT]", help=", ".join(choices))
    parser.add_argument("--scene", action="append", choices=scenes, metavar="NAME", help="only these; repeatable")
    parser.add_argument("--seed", type=int, help="of the moments of deaths (chance)")
    parser.add_argument("--minutes", type=float, help="end after this time, with the table of what was played")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="keep every case there, and play none twice")
    parser.add_argument("--table", action="store_true", help="play nothing: only the table of the journal")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table as a page")
    parser.add_argument("--remarks", type=Path, metavar="FILE", help="what the page says of the run besides")
    options = parser.parse_args()
    for name in options.engines:
        if name not in choices:
            parser.error(f"{name}: one of {', '.join(choices)}")
    if options.journal is not None and options.seed is None and not options.table:
        parser.error("a journal is of one seed: --seed")
    if options.table and options.journal is None:
        parser.error("--table needs --journal")
    return options


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
