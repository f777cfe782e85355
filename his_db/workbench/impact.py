"""What the mappings do to the HIS, for the DBA who has to agree: objects, columns, locks, time-outs, indexes, rates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from his_db.catalogue.model import Catalogue, Name, Table
from his_db.mapping.load import MappingSet
from his_db.mapping.model import OperationMapping, ReportMapping, WatchMapping
from his_db.mapping.sql_text import statements, words
from his_db.source import LaneSettings, default_lanes
from his_db.workbench.grants import body_rights
from his_db.workbench.made_up import generated_statements, values_for
from his_db.workbench.site import Connection, Site, connected, planning
from his_db.workbench.usage import StatementUse, Touched, Use, touched, uses_of

_STATEMENT: Final = timedelta(milliseconds=20)
"""What a statement on an index takes in a HIS of middling health: the peak rates are told for it."""
_CHANGING: Final = frozenset({"INSERT", "UPDATE", "DELETE"})


@dataclass(frozen=True, slots=True)
class SourceImpact:
    """One source: held connections, calls at once by lane, time-outs, polls per minute of all watches together."""

    name: str
    engine: str
    connections: int
    at_once: str
    statement_timeout: str
    lock_timeout: str
    polls_per_minute: float


@dataclass(frozen=True, slots=True)
class ObjectImpact:
    """One object with what is done to it, the columns that are named, and those of them that get a value."""

    name: str
    rights: tuple[str, ...]
    columns: tuple[str, ...]
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that can happen. `statements`: of one call or poll; `per_second`: statements, when each takes 20 ms."""

    at_once: int
    statements: int
    per_second: float
    every: str = ""

    def text(self) -> str:
        """For people."""
        if self.every:
            return f"每 {self.every} 一次，{self.statements} 条语句 / every {self.every}, {self.statements} statements"
        milliseconds = _STATEMENT.total_seconds() * 1000
        return (
            f"最多 {self.at_once} 个并发，每次 {self.statements} 条语句；按每条 {milliseconds:g} ms 计，"
            f"峰值每秒 {self.per_second:g} 条 / at most {self.at_once} at once with {self.statements} statements each; "
            f"{self.per_second:g} statements a second at {milliseconds:g} ms each"
        )


@dataclass(frozen=True, slots=True)
class UseImpact:
    """One operation, watch or report. `indexes` and `scans` name tables of the HIS, not what a statement calls them."""

    label: str
    source: str
    lane: str
    peak: Peak
    statement_timeout: str
    lock_timeout: str
    waits: str
    objects: tuple[ObjectImpact, ...]
    locks: str
    indexes: tuple[str, ...]
    scans: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImpactReport:
    """Everything."""

    revision: str
    sources: tuple[SourceImpact, ...]
    uses: tuple[UseImpact, ...]


def impact(site: Site, mapping_set: MappingSet) -> ImpactReport:
    """Asks the databases for plans; runs nothing. Raises SourceFailed."""
    uses = uses_of(mapping_set)
    sources: list[SourceImpact] = []
    found: list[UseImpact] = []
    for name in sorted({use.source for use in uses}):
        own = [use for use in uses if use.source == name]
        with connected(site.sources[name]) as connection:
            catalogue = connection.catalogue()
            sources.append(_source(site, name, own))
            found.extend(_use(site, connection, catalogue, use) for use in own)
    return ImpactReport(mapping_set.revision, tuple(sources), tuple(found))


def _lanes(site: Site, source: str) -> Mapping[str, LaneSettings]:
    return {**default_lanes(site.sources[source].engine), **site.lanes.get(source, {})}


def _source(site: Site, name: str, uses: Sequence[Use]) -> SourceImpact:
    settings, lanes = site.sources[name], _lanes(site, name)
    used = {_lane(use) for use in uses} | {"watch"}
    polls = sum(60 / _poll(site, use).total_seconds() for use in uses if use.is_watch)
    return SourceImpact(
        name=name,
        engine=settings.engine,
        connections=sum(lane.workers for key, lane in lanes.items() if key in used),
        at_once=", ".join(f"{key} {lane.workers}" for key, lane in lanes.items() if key in used),
        statement_timeout=_seconds(settings.statement_timeout),
        lock_timeout=_seconds(settings.lock_timeout),
        polls_per_minute=round(polls, 1),
    )


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"


def _lane(use: Use) -> str:
    if use.is_watch:
        return "watch"
    if isinstance(use.mapping, ReportMapping):
        return "report"
    return "read" if use.is_read else "write"


def _poll(site: Site, use: Use) -> timedelta:
    mapping = use.mapping
    return (mapping.poll if isinstance(mapping, WatchMapping) else None) or site.poll


def _use(site: Site, connection: Connection, catalogue: Catalogue, use: Use) -> UseImpact:
    seen = touched(use, catalogue)
    rights, columns, notes = _with_bodies(use, seen, catalogue)
    indexes, scans, unplanned = _plans(site, connection, catalogue, use)
    lane = _lanes(site, use.source)[_lane(use)]
    settings = site.sources[use.source]
    waits = use.mapping.timeout if isinstance(use.mapping, (OperationMapping, ReportMapping)) else None
    return UseImpact(
        label=use.label,
        source=use.source,
        lane=_lane(use),
        peak=_peak(site, use, lane),
        statement_timeout=_seconds(lane.statement_timeout or settings.statement_timeout),
        lock_timeout=_seconds(settings.lock_timeout),
        waits="" if waits is None else _seconds(waits),
        objects=tuple(
            ObjectImpact(
                str(key),
                tuple(sorted(needed)),
                tuple(sorted(columns.get(key, ()))),
                tuple(sorted(seen.changes.get(key, ()))),
            )
            for key, needed in sorted(rights.items())
        ),
        locks=_locks(use, connection.engine.name, [key for key, needed in rights.items() if needed & _CHANGING]),
        indexes=indexes,
        scans=scans,
        notes=tuple(dict.fromkeys([*notes, *unplanned])),
    )


def _peak(site: Site, use: Use, lane: LaneSettings) -> Peak:
    count = len([item for item in use.statements if item.path[0] != "diagnosis"]) + bool(use.routine)
    if isinstance(use.mapping, OperationMapping):
        count += len(use.mapping.answers)
    if use.is_watch:
        every = _poll(site, use).total_seconds()
        return Peak(1, count, round(count / every, 2), f"{every:g} s")
    return Peak(lane.workers, count, round(lane.workers / _STATEMENT.total_seconds(), 2))


def _with_bodies(
    use: Use, seen: Touched, catalogue: Catalogue
) -> tuple[dict[Name, set[str]], dict[Name, set[str]], list[str]]:
    """Rights and columns, those of the procedure's body by its words, and what has to be said about it."""
    rights = {key: set(needed) for key, needed in seen.rights.items()}
    columns = {key: set(found) for key, found in seen.columns.items()}
    notes: list[str] = []
    waiting = list(catalogue.routine(use.routine)) if use.routine else []
    done: set[Name] = set()
    while waiting:
        routine = waiting.pop()
        if routine.key in done:
            continue
        done.add(routine.key)
        if not routine.body:
            notes.append("the text of the procedure cannot be read by this login / 该账号看不到过程内容")
            continue
        notes.append("objects inside the procedure by the words of its text / 过程内部访问的对象按过程文本推断")
        for statement in statements(routine.body):
            named = {word.lower() for word in words(statement)}
            for key, needed in body_rights(statement, catalogue).items():
                rights.setdefault(key, set()).update(needed)
                waiting += catalogue.routines.get(key, ())
                table = catalogue.tables.get(key)
                own = {column.name.lower() for column in table.columns} if table is not None else set()
                columns.setdefault(key, set()).update(own & named)
    return rights, columns, notes


def _locks(use: Use, engine: str, changed: Sequence[Name]) -> str:
    names = ", ".join(str(name) for name in sorted(changed))
    if use.routine and not use.is_read:
        known = f"：{names}" if names else "，由过程决定"
        return f"过程内行锁，到提交为止{known} / row locks of the procedure until commit: {names or 'its own business'}"
    if not use.is_read:
        return f"行锁，到提交为止：{names} / row locks until commit: {names}"
    if engine == "mssql" and not any("NOLOCK" in words(statement.sql) for statement in use.statements):
        return (
            "共享锁，语句结束即释放（未开启快照时） / shared locks for the statement, unless snapshot isolation is on"
        )
    return "无 / none"


def _plans(
    site: Site, connection: Connection, catalogue: Catalogue, use: Use
) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """Indexes as TABLE.INDEX and tables that are read from end to end, by their names in the HIS."""
    indexes: dict[str, None] = {}
    scans: dict[str, None] = {}
    notes: list[str] = []
    for statement in use.statements:
        texts = (
            [(statement.sql, values_for(site, use, statement.sql))]
            if statement.sql
            else generated_statements(site, use)
        )
        for sql, values in texts[:1]:
            try:
                with planning(connection, is_select=statement.only_reads) as session:
                    plan = connection.reader.explain(session, sql, values)
            except connection.engine.driver_errors as error:
                notes.append(f"no plan / 无法取得执行计划: {connection.engine.describe(error)}")
                continue
            if not plan.lines:
                notes.append("this engine tells plans only to more powerful logins / 该数据库的执行计划需要更高权限")
            indexes.update(dict.fromkeys(_indexes(plan.indexes, statement, catalogue)))
            scans.update(dict.fromkeys(name for alias in plan.scans for name in _tables(alias, statement, catalogue)))
    return tuple(indexes), tuple(scans), notes


def _indexes(used: Iterable[tuple[str, str]], statement: StatementUse, catalogue: Catalogue) -> Iterator[str]:
    """An index of the table that the plan names; else of the only table that has one of the name (below a view)."""
    for alias, name in used:
        meant = [
            table
            for each in statement.objects.aliases.get(_bare(alias), ())
            if (table := catalogue.table(each)) is not None
        ]
        owners = _with_index(meant, name) or _with_index(catalogue.tables.values(), name)
        if owners and len(owners) <= max(1, len(meant)):
            yield from (f"{table.key}.{name}" for table in owners)
        elif meant:
            yield f"{' / '.join(str(table.key) for table in meant)}.{name}"  # INTEGER PRIMARY KEY is no index
        else:
            yield name


def _bare(alias: str) -> str:
    return alias.strip('"`[]').lower()


def _with_index(tables: Iterable[Table], name: str) -> list[Table]:
    return [table for table in tables if any(name.lower() == index.name.lower() for index in table.indexes)]


def _tables(alias: str, statement: StatementUse, catalogue: Catalogue) -> Iterator[str]:
    """What an alias of a plan means; a derived table and a constant are no tables."""
    meant = statement.objects.aliases.get(_bare(alias), ())
    found = [str(table.key) for name in meant if (table := catalogue.table(name)) is not None]
    if found:
        yield " / ".join(dict.fromkeys(found))
    elif (table := catalogue.table(alias)) is not None:
        yield str(table.key)  # below a view
