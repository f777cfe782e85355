"""``make race``: the long late-commit race. Prints one table; ends with 1 when a rung has missed a final state, or when
the naive poller beside them has not."""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

from tests.binlog_server import running_binlog_server
from tests.race.beds import CASES, Bed, mysql_bed, postgresql_bed, sqlite_bed
from tests.race.heats import Count, heats
from tests.servers import running_postgresql

_STAMPS = {"postgresql": ("begin", "clock"), "mysql": ("begin", "clock"), "sqlite": ("clock",)}
_HEADER = (
    "engine", "rung", "transactions", "rolled back", "looks", "of them windows", "final states", "missed",
    "missed by the naive poller", "seconds",
)  # fmt: skip
_PLACE = re.compile(r"(?<=<!-- race -->\n).*?(?=<!-- /race -->)", re.DOTALL)


@contextmanager
def _postgresql() -> Iterator[tuple[str, Callable[[int], AbstractContextManager[Bed]]]]:
    with running_postgresql() as server:
        with server.connect() as admin:
            found = admin.execute("SHOW server_version").fetchone()
        yield f"PostgreSQL {found[0].split()[0] if found else ''}", lambda rows: postgresql_bed(server, rows)


@contextmanager
def _mysql() -> Iterator[tuple[str, Callable[[int], AbstractContextManager[Bed]]]]:
    """A server of our own: the standard one of a machine writes no binary log."""
    with running_binlog_server() as own:
        with own.server.connect() as admin, admin.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            version = str(cursor.fetchone()[0])
            # Nobody pulls the plug of this server; what others can see, and when, is the same.
            cursor.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        kind = "MariaDB" if "MariaDB" in version else "MySQL"
        yield f"{kind} {version.split('-')[0]}", lambda rows: mysql_bed(own.server, rows)


@contextmanager
def _sqlite() -> Iterator[tuple[str, Callable[[int], AbstractContextManager[Bed]]]]:
    numbers = count()
    with tempfile.TemporaryDirectory(prefix="his160-race-") as folder:
        yield "SQLite", lambda rows: sqlite_bed(Path(folder) / f"{next(numbers)}.db", rows)


_ENGINES = {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}


def main() -> int:
    """Run the engines one after another."""
    options = _options()
    counts: list[Count] = []
    for engine in options.engines:
        rungs = {rung: spec for (of, rung, _), spec in CASES.items() if of == engine}
        stamps = _STAMPS[engine]
        with _ENGINES[engine]() as (name, bed):
            for at, stamp in enumerate(stamps):
                share = -(-options.transactions // len(stamps))
                found = heats(name, bed, rungs, stamp=stamp, transactions=share, seed=options.seed + at * 1_000_003)
                _add(counts, found)
                print(f"{name}, stamp {stamp}: done\n{_table(counts)}", file=sys.stderr, flush=True)
    print(_table(counts))
    for row in counts:
        for example in row.examples:
            print(f"{row.engine} {row.rung}: missed, {example}")
    if options.markdown is not None:
        facts = f"Run of {dt.date.today().isoformat()}: `make race`, seed {options.seed}. {options.machine}"
        _write(options.markdown, f"\n{facts.strip()}\n\n{_table(counts)}\n\n")
    return 1 if any(row.missed or not row.naive for row in counts) else 0


def _add(counts: list[Count], found: Sequence[Count]) -> None:
    """The same rung under another stamp is the same line."""
    for new in found:
        old = next((row for row in counts if (row.engine, row.rung) == (new.engine, new.rung)), None)
        if old is None:
            counts.append(new)
            continue
        for name in (
            "transactions",
            "rolled_back",
            "looks",
            "windows",
            "final",
            "missed",
            "naive",
            "seconds",
            "examples",
        ):
            setattr(old, name, getattr(old, name) + getattr(new, name))


def _table(counts: Sequence[Count]) -> str:
    lines = [f"| {' | '.join(_HEADER)} |", f"|---|---|{'---:|' * (len(_HEADER) - 2)}"]
    for row in counts:
        numbers = (row.transactions, row.rolled_back, row.looks, row.windows, row.final, row.missed, row.naive)
        cells = [row.engine, f"{row.grade} `{row.rung}`", *(f"{number:,}" for number in numbers), f"{row.seconds:,.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _write(page: Path, text: str) -> None:
    """Between the marks on the page. Raises LookupError without them."""
    before = page.read_text(encoding="utf-8")
    if not _PLACE.search(before):
        raise LookupError(f"{page} has no <!-- race --> … <!-- /race -->")
    page.write_text(_PLACE.sub(lambda _: text, before), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.race", description=__doc__)
    parser.add_argument("engines", nargs="*", default=list(_ENGINES), help=", ".join(_ENGINES))
    parser.add_argument("--transactions", type=int, default=100_000, help="committed ones of each engine")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to its place on a page")
    parser.add_argument("--machine", default="", help="a sentence about the machine, for the page")
    options = parser.parse_args()
    for name in options.engines:
        if name not in _ENGINES:
            parser.error(f"{name}: one of {', '.join(_ENGINES)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
