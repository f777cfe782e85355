"""The online stage of the check: what the mappings use, held against the live catalogue, and the code values that the
live data holds. Reads only; of the data nothing but counts of code values (`his_db/workbench/code_census.py`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from his_db.catalogue.model import Catalogue, Name, Table
from his_db.document.finding import Words
from his_db.document.located import Path
from his_db.document.problem import Problems, Severity
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.load import MappingSet
from his_db.mapping.model import FieldSpec, OperationMapping, ResultSpec, WatchMapping
from his_db.mapping.paths import resolve, sort_of
from his_db.workbench.check_chinese import ChineseColumn, check_chinese
from his_db.workbench.check_padding import check_padding
from his_db.workbench.check_parameters import check_parameters
from his_db.workbench.check_values import check_values
from his_db.workbench.code_census import Census, take_census
from his_db.workbench.grants import add_bodies, needed_rights
from his_db.workbench.site import Connection, Site, SourceFailed, connected
from his_db.workbench.source_look import about_source, charset_problem, unreachable
from his_db.workbench.usage import StatementUse, Use, column_owner, row_descriptor, touched, uses_of

_MOMENTS = {"date", "time", "timestamp"}
_HIDING = frozenset({"mysql", "mssql", "oracle", "dm"})  # engines that show a login only what it has a right on


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What a source said about itself. `version` is empty when it did not answer."""

    name: str
    engine: str
    version: str
    login: str
    charset: str
    objects: int
    chinese: tuple[ChineseColumn, ...] = ()


@dataclass(frozen=True, slots=True)
class OnlineCheck:
    """Problems of all sources, by place; what each source is; the values of the code columns."""

    problems: Problems
    sources: tuple[SourceReport, ...]
    censuses: tuple[Census, ...] = ()


def check_online(
    site: Site, mapping_set: MappingSet, *, deep: bool = False, without: Collection[str] = ()
) -> OnlineCheck:
    """What catalogue and code columns tell. With `deep` each statement is given to the database too; none is run.
    `without`: sources that are left alone."""
    problems = Problems()
    reports: list[SourceReport] = []
    censuses: list[Census] = []
    uses = uses_of(mapping_set)
    for name in sorted({use.source for use in uses} - set(without)):
        own = [use for use in uses if use.source == name]
        try:
            with connected(site.sources[name]) as connection:
                reports.append(_source(site, connection, own, problems, censuses, deep=deep))
        except SourceFailed as error:
            reports.append(SourceReport(name, site.sources[name].engine, "", "", "", 0))
            problems.add(unreachable(error))
    return OnlineCheck(Problems(dict.fromkeys(problems)), tuple(reports), tuple(censuses))


def _source(
    site: Site,
    connection: Connection,
    uses: Sequence[Use],
    problems: Problems,
    censuses: list[Census],
    *,
    deep: bool,
) -> SourceReport:
    try:
        version = connection.engine.server_version(connection.session)
    except connection.engine.driver_errors as error:
        raise connection.failed(error) from None
    changed = charset_problem(connection)
    if changed is not None:
        problems.add(changed)
    catalogue = connection.catalogue()
    for use in uses:
        check_use(use, catalogue, problems)
    needed = needed_rights(uses, catalogue)
    add_bodies(catalogue, needed)
    _check_powers(connection.name, catalogue, needed, problems)
    chinese = () if changed is not None else check_chinese(connection, uses, catalogue, problems)
    taken = take_census(connection, uses, catalogue)
    check_values(taken, problems)
    censuses.extend(taken)
    if deep:
        from his_db.workbench.check_deep import check_deep  # it needs more of the house than the rest

        check_deep(site, connection, uses, problems)
    login = catalogue.login
    who = f"{login.user}@{login.database}" if login.user else ""
    return SourceReport(connection.name, catalogue.engine, version, who, login.charset, len(catalogue.tables), chinese)


def check_use(use: Use, catalogue: Catalogue, problems: Problems) -> None:
    """Objects, columns, parameters, types, missing rights and the polled columns of one operation or watch."""
    report = Reporter(use.document, problems)
    found = touched(use, catalogue)
    for name, path in found.missing:
        _missing_object(use, name, path, catalogue, report)
    for table, column, path in found.missing_columns:
        _missing_column(table, column, path, catalogue, report)
    for key, rights in found.rights.items():
        for right in sorted(rights):
            if not catalogue.has(key, right):
                _missing_right(use, key, right, catalogue, report)
    if use.routine and catalogue.routine(use.routine):
        check_parameters(use, catalogue.routine(use.routine), report)
    for statement in use.statements:
        for result in _results(use):
            _check_types(use, result, statement, catalogue, report)
        check_padding(use, statement, catalogue, report)
        if use.is_watch:
            _check_polled(statement, catalogue, report)


def _results(use: Use) -> tuple[ResultSpec, ...]:
    mapping = use.mapping
    if isinstance(mapping, WatchMapping):
        return (mapping.result,)
    return mapping.results if isinstance(mapping, OperationMapping) else ()


def _missing_object(use: Use, name: str, path: Path, catalogue: Catalogue, report: Reporter) -> None:
    if name == use.routine:
        message = Words(f"the database has no procedure {name}", f"数据库中没有存储过程 {name}")
        known: Iterable[Name] = catalogue.routines
        code = "H505"
    else:
        message = Words(f"the database has no table or view {name}", f"数据库中没有表或视图 {name}")
        known, code = catalogue.tables, "H502"
    has_schema = "." in name
    meant = did_you_mean(name, [str(key) if has_schema else key.name for key in known])
    report.value(code, path, message, _or_a_right(meant, catalogue))


def _or_a_right(meant: Words, catalogue: Catalogue) -> Words:
    """What may be missing is only the right: these servers show a login what it may use and hide the rest."""
    if catalogue.engine not in _HIDING:
        return meant
    login = catalogue.login.user
    may = Words(
        f"if it is there, {login} has no right on it: see his160 mapping grants",
        f"如果确实存在，就是账号 {login} 没有它的权限：执行 his160 mapping grants 给出的授权脚本",
    )
    return Words(f"{meant.en}; {may.en}" if meant.en else may.en, f"{meant.zh}；{may.zh}" if meant.zh else may.zh)


def _missing_column(table: str, column: str, path: Path, catalogue: Catalogue, report: Reporter) -> None:
    message = Words(f"{table} has no column {column}", f"{table} 没有列 {column}")
    first = catalogue.table(table.partition(" / ")[0])
    names = [] if first is None else [item.name for item in first.columns]
    report.value("H503", path, message, _or_a_right(did_you_mean(column, names), catalogue))


def _missing_right(use: Use, key: Name, right: str, catalogue: Catalogue, report: Reporter) -> None:
    login = catalogue.login.user
    message = Words(f"{login} may not {right} on {key}", f"账号 {login} 没有 {key} 的 {right} 权限")
    fix = Words("see his160 mapping grants", "请执行 his160 mapping grants 给出的授权脚本")
    path = use.statements[0].path if use.statements else (*use.place, "object")
    report.value("H508", path, message, fix)


def _check_powers(source: str, catalogue: Catalogue, needed: dict[Name, set[str]], problems: Problems) -> None:
    login = catalogue.login
    if login.powers:
        names = ", ".join(login.powers)
        message = Words(f"the login {login.user} is {names}", f"账号 {login.user} 拥有 {names}，权限过大")
        fix = Words(
            "use a login of its own, see his160 mapping grants", "请为本程序单独建账号，见 his160 mapping grants"
        )
        problems.add(about_source(source, "H511", message, fix, Severity.WARNING))
        return
    if not login.user:
        return  # an engine without logins
    excess = {
        key: rights - needed.get(key, set()) - {"EXECUTE"}
        for key, rights in catalogue.rights.items()
        if key in catalogue.tables
    }
    for key, rights in sorted((key, rights) for key, rights in excess.items() if rights and key not in needed):
        _excess(source, key, rights, problems)
    for key, rights in sorted((key, rights - {"SELECT"}) for key, rights in excess.items() if key in needed):
        if rights:
            _excess(source, key, rights, problems)


def _excess(source: str, key: Name, rights: Iterable[str], problems: Problems) -> None:
    names = ", ".join(sorted(rights))
    message = Words(f"{names} on {key} is not needed", f"{key} 上的 {names} 权限没有用到")
    fix = Words(f"REVOKE {names} ON {key}", f"REVOKE {names} ON {key}（先确认存储过程不需要）")
    problems.add(about_source(source, "H509", message, fix, Severity.WARNING))


def _check_types(use: Use, result: ResultSpec, statement: StatementUse, catalogue: Catalogue, report: Reporter) -> None:
    """Columns that reach a field without an expression around them."""
    mapping = use.mapping
    if not isinstance(mapping, (OperationMapping, WatchMapping)):
        return
    descriptor = row_descriptor(mapping, result)
    for spec in result.fields:
        reference = statement.objects.outputs.get(spec.column.lower()) if spec.column else None
        table, _ = column_owner(reference, catalogue) if reference is not None else (None, "")
        column = table.column(reference.column) if table is not None and reference is not None else None
        path = resolve(descriptor, spec.to)
        if column is None or path is None or table is None:
            continue
        words = _misfit(spec, sort_of(path[-1]), column.family)
        if words is not None:
            where = f"{table.name}.{column.name} {column.type}"
            message = Words(f"{where}: {words.en}", f"{where}：{words.zh}")
            report.warn("H504", (*spec.path, "column"), message)


def _misfit(spec: FieldSpec, sort: str, family: str) -> Words | None:
    has_format = bool(spec.formats or spec.date_formats or spec.time_formats)
    if spec.codes or family == "other":
        return None
    if sort in _MOMENTS:
        if family in {"text", "number"} and not has_format:
            return Words("a text becomes a date only with a format", "文本要写明格式才能成为日期时间")
        if family == "binary" or (family == "time" and sort != "time") or (family == "date" and sort == "time"):
            return Words(f"cannot become a {sort}", "不能成为该日期时间字段")
    elif sort in {"int", "money", "bool"} and family in {"date", "datetime", "time", "binary"}:
        return Words("cannot become a number", "不能成为数值")
    return None


def _check_polled(statement: StatementUse, catalogue: Catalogue, report: Reporter) -> None:
    """A watch runs twice a second: one of the columns that its binds filter must lead an index."""
    filters = [(column_owner(ref, catalogue)[0], ref.column) for ref in statement.objects.filters]
    known: list[tuple[Table, str]] = [(table, column) for table, column in filters if table is not None]
    if not known or any(table.kind == "view" or table.leads_index(column) for table, column in known):
        return
    names = ", ".join(f"{table.name}.{column}" for table, column in known)
    message = Words(
        f"no index begins with {names}: every poll reads the whole table", f"{names} 没有索引，每次轮询都要全表扫描"
    )
    fix = Words("ask the vendor for an index, or filter another column", "请厂商建索引，或改用有索引的列过滤")
    report.warn("H510", statement.path, message, fix)
