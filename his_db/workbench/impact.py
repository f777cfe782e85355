"""What the mappings do to the HIS, for the DBA who has to agree: objects, locks, time-outs, indexes, rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from his_db.catalogue.model import Catalogue
from his_db.mapping.load import MappingSet
from his_db.mapping.model import ReportMapping, WatchMapping
from his_db.mapping.sql_text import words
from his_db.source import default_lanes
from his_db.workbench.grants import body_rights
from his_db.workbench.made_up import generated_statements, values_for
from his_db.workbench.site import Connection, Site, connected, planning
from his_db.workbench.usage import Use, touched, uses_of


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
    """One object with what is done to it and the columns that are read or written."""

    name: str
    rights: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UseImpact:
    """One operation or watch."""

    label: str
    source: str
    lane: str
    rate: str
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


def _source(site: Site, name: str, uses: Sequence[Use]) -> SourceImpact:
    settings = site.sources[name]
    lanes = {**default_lanes(settings.engine), **site.lanes.get(name, {})}
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
    rights = {key: set(needed) for key, needed in seen.rights.items()}
    notes: list[str] = []
    for routine in catalogue.routine(use.routine) if use.routine else ():
        for key, needed in body_rights(routine.body, catalogue).items():
            rights.setdefault(key, set()).update(needed)
        if not routine.body:
            notes.append("the text of the procedure cannot be read by this login / 该账号看不到过程内容")
    indexes, scans, unplanned = _plans(site, connection, use)
    notes += unplanned
    lanes = {**default_lanes(site.sources[use.source].engine), **site.lanes.get(use.source, {})}
    lane = _lane(use)
    every = _poll(site, use).total_seconds()
    rate = (
        f"每 {every:g} 秒一次 / every {every:g} s"
        if use.is_watch
        else f"按平台请求，最多 {lanes[lane].workers} 个并发 / on request, at most {lanes[lane].workers} at once"
    )
    return UseImpact(
        label=use.label,
        source=use.source,
        lane=lane,
        rate=rate,
        objects=tuple(
            ObjectImpact(str(key), tuple(sorted(needed)), tuple(sorted(seen.columns.get(key, ()))))
            for key, needed in sorted(rights.items())
        ),
        locks=_locks(use, connection.engine.name),
        indexes=indexes,
        scans=scans,
        notes=tuple(dict.fromkeys(notes)),
    )


def _locks(use: Use, engine: str) -> str:
    if use.routine:
        return "由存储过程决定，一个事务内 / the procedure's own, in one transaction"
    if not use.is_read:
        changed = sorted(
            {
                name
                for statement in use.statements
                for name, needed in statement.objects.tables.items()
                if needed & {"INSERT", "UPDATE", "DELETE"}
            }
        )
        return f"行锁到提交为止 / row locks until commit: {', '.join(changed)}"
    if engine == "mssql" and not any("NOLOCK" in words(statement.sql) for statement in use.statements):
        return (
            "共享锁，语句结束即释放（未开启快照时） / shared locks for the statement, unless snapshot isolation is on"
        )
    return "无 / none"


def _plans(site: Site, connection: Connection, use: Use) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    indexes: list[str] = []
    scans: list[str] = []
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
            indexes.extend(plan.indexes)
            scans.extend(plan.scans)
    return tuple(dict.fromkeys(indexes)), tuple(dict.fromkeys(scans)), notes
