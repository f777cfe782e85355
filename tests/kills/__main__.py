"""Part of ``make chaos``: the process that watches and delivers is killed, a thousand times and more, while the windows
go on. Prints one table; ends with 1 when a final state was not told, or a fact was told twice, or what is not so.

    python -m tests.kills [--kills 400] [--seed 7] [--markdown docs/reliability.md] [ENGINE …]
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from his_db.feed import FeedSpec
from tests.compiled import compile_all
from tests.kills.heat import LABELS, ORDERS, Count, play
from tests.race.beds import CASES, Bed, mysql_bed, postgresql_bed, sqlite_bed
from tests.servers import running_mariadb, running_postgresql, url_of

HEAT: Final = 50
"""Deaths of one heat."""
_PLACE: Final = re.compile(r"(?<=<!-- kills -->\n).*?(?=<!-- /kills -->)", re.DOTALL)
# Engine → rungs; None: the whole window. A binary log needs a server of its own (`make race`).
RUNGS: Final[dict[str, tuple[str | None, ...]]] = {
    "sqlite": ("change_table", None),
    "postgresql": ("change_table", "xmin", "cursor", None),
    "mysql": ("change_table", "cursor"),
}


@contextmanager
def _beds(engine: str, folder: Path, orders: int) -> Iterator[tuple[Bed, Path | str]]:
    """A HIS with ``orders`` orders, and a place for the store: with PostgreSQL a database, else a file."""
    with ExitStack() as stack:
        if engine == "sqlite":
            yield stack.enter_context(sqlite_bed(folder / "his.db", orders)), folder / "state.db"
        elif engine == "postgresql":
            server = stack.enter_context(running_postgresql())
            store = stack.enter_context(server.database())
            yield stack.enter_context(postgresql_bed(server, orders)), url_of(store)
        else:
            server_of_mysql = stack.enter_context(running_mariadb())
            yield stack.enter_context(mysql_bed(server_of_mysql, orders)), folder / "state.db"


def spec_of(engine: str, rung: str | None) -> FeedSpec | None:
    """As in the race: stamps of the wall clock."""
    return None if rung is None else CASES[engine, rung, "clock"]


def campaign(engine: str, rung: str | None, *, kills: int, seed: int, orders: int = ORDERS) -> Count:
    """So many deaths, in heats."""
    kept = "PostgreSQL" if engine == "postgresql" else "SQLite"
    found = Count(engine, rung or "window", kept)
    for heat in count():
        left = kills - found.kills.total()
        if left <= 0:
            return found
        with (
            tempfile.TemporaryDirectory(prefix="his160-kills-") as name,
            _beds(engine, Path(name), orders) as (bed, store),
        ):
            spec = spec_of(engine, rung)
            play(bed, spec, store, Path(name), found, kills=min(HEAT, left), seed=seed + heat)
    raise AssertionError("count() has no end")


def table(counts: Sequence[Count]) -> str:
    """A line for each rung of an engine, and their sum."""
    labels = [*LABELS, "any time"]
    heads = ["HIS", "rung", "state store", "kills", *labels, "transactions", "events", "came again"]
    heads += ["lost", "doubled", "contradictory", "seconds"]
    rows = [f"| {' | '.join(heads)} |", f"|---|---|---|{'---:|' * (len(heads) - 3)}"]
    total = Count("**all**", "", "")
    for row in counts:
        rows.append(_row(row, labels))
        total.kills.update(row.kills)
        for name in ("commits", "events", "again", "lost", "doubled", "contradictory", "seconds"):
            setattr(total, name, getattr(total, name) + getattr(row, name))
    return "\n".join([*rows, _row(total, labels)])


def _row(row: Count, labels: Sequence[str]) -> str:
    numbers = [row.kills.total(), *(row.kills[label] for label in labels), row.commits, row.events, row.again]
    numbers += [len(row.lost), len(row.doubled), len(row.contradictory), round(row.seconds)]
    rung = f"`{row.rung}`" if row.rung else ""
    return f"| {' | '.join([row.engine, rung, row.store, *(f'{number:,}' for number in numbers)])} |"


def main() -> int:
    """Run the engines one after another."""
    options = _options()
    compile_all()
    counts: list[Count] = []
    for engine in options.engines:
        for rung in RUNGS[engine]:
            counts.append(campaign(engine, rung, kills=options.kills, seed=options.seed))
            print(_row(counts[-1], [*LABELS, "any time"]), file=sys.stderr, flush=True)
    print(table(counts))
    for row in counts:
        for kind in ("lost", "doubled", "contradictory"):
            for example in getattr(row, kind):
                print(f"{row.engine} {row.rung}: {kind}, {example}")
    if options.markdown is not None:
        facts = f"Run of {dt.date.today().isoformat()}: `python -m tests.kills`, seed {options.seed}. {options.machine}"
        page = options.markdown.read_text(encoding="utf-8")
        if not _PLACE.search(page):
            raise LookupError(f"{options.markdown} has no <!-- kills --> … <!-- /kills -->")
        text = f"\n{facts.strip()}\n\n{table(counts)}\n\n"
        options.markdown.write_text(_PLACE.sub(lambda _: text, page), encoding="utf-8")
    return 1 if any(row.lost or row.doubled or row.contradictory for row in counts) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("engines", nargs="*", default=list(RUNGS), help=", ".join(RUNGS))
    parser.add_argument("--kills", type=int, default=400, help="of each rung of each engine")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to its place on a page")
    parser.add_argument("--machine", default="", help="a sentence about the machine, for the page")
    options = parser.parse_args()
    for name in options.engines:
        if name not in RUNGS:
            parser.error(f"{name}: one of {', '.join(RUNGS)}")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
