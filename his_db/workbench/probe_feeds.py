"""Which rungs of the capture ladder a table allows, best first, and why not the better ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from his_db import registry
from his_db.document.finding import Words
from his_db.engine import Fault
from his_db.feed import Feed, FeedSpec, Obstacle, PositionLost, SessionRun
from his_db.workbench.site import Connection

_NO_COLUMN: Final = Obstacle(
    Words("it goes by a column: name one", "需要指定 column 列"), Words("--column NAME", "--column 列名")
)


@dataclass(frozen=True, slots=True)
class ProbedRung:
    """One rung. ``grade``: A to C, and D for the snapshot diff, which every table allows."""

    rung: str
    grade: str
    obstacles: tuple[Obstacle, ...]

    @property
    def is_usable(self) -> bool:
        return not self.obstacles


def probe_table(connection: Connection, spec: FeedSpec) -> list[ProbedRung]:
    """Every rung of the connection's engine on that table. Changes nothing. ``spec.rung`` does not matter."""
    found: list[ProbedRung] = []
    for rung, entry in registry.rungs_of(connection.engine.name).items():
        feed: Feed = registry.load(entry)()
        found.append(ProbedRung(rung, feed.grade, _obstacles(connection, feed, replace(spec, rung=rung))))
    found.append(ProbedRung("snapshot", "D", ()))
    return sorted(found, key=lambda item: item.grade)


def _obstacles(connection: Connection, feed: Feed, spec: FeedSpec) -> tuple[Obstacle, ...]:
    if feed.needs_column and not spec.column:
        return (_NO_COLUMN,)
    try:
        return tuple(feed.obstacles(SessionRun(connection.session, max_rows=50_000), spec))
    except PositionLost as lost:
        return (Obstacle(Words(str(lost), str(lost)), Words("ask the DBA", "请 DBA 处理")),)
    except connection.engine.driver_errors as error:
        fault = connection.engine.classify(error, sent=True)
        said = connection.engine.describe(error)
        fix = (
            Words("grant it to the account", "给该账号授权")
            if fault is Fault.RIGHTS
            else Words("check the names of table and column", "请检查表名、列名")
        )
        return (Obstacle(Words(f"{fault.value}: {said}", f"{fault.value}：{said}"), fix),)
