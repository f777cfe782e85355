"""The table of a campaign: for the console, and as the page ``docs/chaos.md``."""

from __future__ import annotations

from collections.abc import Sequence

from tests.chaos.campaign import Row, rows_of
from tests.chaos.invariants import INVARIANTS, Kind
from tests.chaos.journal import Entry

_HEADER = (
    "command",
    "engine",
    "extent",
    "points",
    "kills",
    "lost",
    "doubled",
    "contradictory",
    "unknown left to a person",
)
_WORDS = 3  # columns of words; the others are figures


def total(rows: Sequence[Row]) -> Row:
    """All rows as one."""
    found = Row("all", "all", is_whole=True)
    for row in rows:
        found.points += row.points
        found.cases += row.cases
        found.kills += row.kills
        found.unknown += row.unknown
        found.findings += row.findings
    return found


def console(rows: Sequence[Row]) -> str:
    """Columns for a person."""
    lines = [_HEADER, *(_cells(row) for row in [*rows, total(rows)])]
    widths = [max(len(line[at]) for line in lines) for at in range(len(_HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at < _WORDS else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def markdown(entries: Sequence[Entry], preface: str, remarks: str = "") -> str:
    """The page of a journal. ``remarks``: what else is to be known of the runs."""
    rows = rows_of(entries)
    head = [f"| {' | '.join(_HEADER)} |", f"|{'---|' * _WORDS}{'---:|' * (len(_HEADER) - _WORDS)}"]
    body = [f"| {' | '.join(_cells(row))} |" for row in rows]
    last = f"| {' | '.join(f'**{cell}**' if cell else '' for cell in _cells(total(rows)))} |"
    names = ", ".join(f"`{invariant.__name__}`" for invariant in INVARIANTS)
    page = [preface.rstrip(), "", facts(entries), *([remarks.strip()] if remarks.strip() else []), ""]
    return "\n".join([*page, *head, *body, last, "", f"Invariants: {names}.", ""])


def facts(entries: Sequence[Entry]) -> str:
    """When, of which code, how much, and beside what: one sentence."""
    days, commits = ([*dict.fromkeys(values)] for values in zip(*((e.day, e.commit) for e in entries), strict=True))
    seeds = [*dict.fromkeys(str(entry.seed) for entry in entries)]
    loads = [entry.load for entry in entries]
    kills, findings = sum(entry.kills for entry in entries), sum(len(entry.findings) for entry in entries)
    when = " to ".join([*dict.fromkeys((days[0], days[-1]))])
    return (
        f"Run of {when}, code of commit {', '.join(commits)}, seed {', '.join(seeds)}, load average of the machine "
        f"{min(loads):.0f} to {max(loads):.0f}: **{kills} kills, {findings} findings.**"
    )


def _cells(row: Row) -> tuple[str, ...]:
    harm = [row.count(kind) for kind in (Kind.LOST, Kind.DOUBLED, Kind.CONTRADICTORY)]
    command = row.command if row.is_whole else f"{row.command} (not to its end)"
    return (command, row.engine, row.extent, *(str(number) for number in (row.points, row.kills, *harm, row.unknown)))
