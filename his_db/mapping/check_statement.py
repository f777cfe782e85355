"""Checking SQL and its binds: one statement, doing what its place allows, every bind with a value, every param used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from his_db.document.finding import Words
from his_db.document.located import Document, Path
from his_db.mapping import sql_facts, sql_text
from his_db.mapping.check_params import check_implicit, check_params
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.model import UNREAD, OperationMapping, Param, Site, sql_of, sql_path


@dataclass(frozen=True, slots=True)
class StatementFacts:
    """A statement that passed: where it stands, its text and what is known of it."""

    path: Path
    sql: str
    is_select: bool
    outputs: tuple[str, ...] | None
    ordered: bool


def check_statement(
    table: Mapping[str, Any], path: Path, engine: str, site: Site, report: Reporter
) -> StatementFacts | None:
    """The statement of a table with `sql` or `sql_file`. None when there is none whose facts are certain."""
    has_inline, has_file = bool(table.get("sql")), bool(table.get("sql_file"))
    if has_inline == has_file:
        message = Words("exactly one of sql and sql_file is needed", "sql 与 sql_file 必须且只能写一个")
        report.key("H231", path, message)
        return None
    place = sql_place(table, path)
    if has_file and not _check_file(table, place, site, report):
        return None
    sql = sql_of(table, report.document, site.sql_files)
    if sql == UNREAD:
        report.document.damage.add(place)
        return None
    found = sql_text.statements(sql, engine)
    if len(found) != 1:
        message = Words(f"{len(found)} statements, exactly one is allowed", f"这里有 {len(found)} 条语句，只允许一条")
        report.value("H300", place, message, Words('kind = "steps" takes several', '多条语句请用 kind = "steps"'))
    allowed = [statement for statement in found if _check_verb(statement, place, report)]
    check_called(sql, place, report, engine)
    for name in sql_text.quoted_binds(sql, engine):
        message = Words(f"':{name}' in quotes is text, not a bind", f"引号里的 ':{name}' 是文本，不是参数")
        report.warn("H308", place, message, Words(f"write :{name} without quotes", f"去掉引号，写成 :{name}"))
    facts = [sql_facts.facts_of(statement, engine) for statement in allowed]
    for each in facts:
        _report_facts(each, place, report)
    if len(found) != 1 or not facts:
        return None
    return StatementFacts(place, sql, sql_text.is_select(sql), facts[0].outputs, facts[0].ordered)


def check_statements(document: Document, values: Mapping[str, Any], site: Site, report: Reporter) -> None:
    """The SQL of a file whose operation is not known: what can be said of statements alone."""
    engine = site.sources.get(str(values.get("source", "")), "")
    tables: list[tuple[Path, Any]] = [((), values)]
    for key in ("step", "diagnosis"):
        items = values.get(key, ())
        tables += [((key, at), item) for at, item in enumerate(items if isinstance(items, list) else ())]
    for path, table in tables:
        if isinstance(table, Mapping) and any(isinstance(table.get(key), str) for key in ("sql", "sql_file")):
            check_statement(table, path, engine, site, report)


def sql_place(table: Mapping[str, Any], path: Path) -> Path:
    """Where the SQL of a table is written, or the name of its file."""
    return (*path, "sql_file" if "sql_file" in table else "sql")


def check_select(
    table: Mapping[str, Any], path: Path, engine: str, site: Site, report: Reporter
) -> StatementFacts | None:
    """As `check_statement`, and it must be a SELECT that locks nothing."""
    found = check_statement(table, path, engine, site, report)
    if found is None:
        return None
    if not found.is_select:
        message = Words("only a SELECT is allowed here", "这里只允许 SELECT 语句")
        report.value("H301", found.path, message)
        return None
    if sql_facts.facts_of(found.sql, engine).locks_rows:
        message = Words("SELECT ... FOR UPDATE locks rows of the HIS", "SELECT ... FOR UPDATE 会锁住 HIS 的数据行")
        report.value("H301", found.path, message, Words("delete FOR UPDATE", "去掉 FOR UPDATE"))
    return found


def _check_file(table: Mapping[str, Any], place: Path, site: Site, report: Reporter) -> bool:
    name = sql_path(table, report.document)
    if name and name in site.sql_files:
        return True
    if not name:
        message = Words("the file lies outside the mapping folder", "文件不在映射文件夹内")
        fix = Words("put it beside this file and write its name only", "请放在本文件旁边，只写文件名")
    else:
        message = Words(f"there is no file {name}", f"没有文件 {name}")
        fix = did_you_mean(name, site.sql_files)
    report.value("H228", place, message, fix)
    return False


def _check_verb(sql: str, place: Path, report: Reporter) -> bool:
    word = sql_text.verb(sql)
    if word in sql_facts.ALLOWED:
        return True
    if word in {"CALL", "EXEC", "EXECUTE"}:
        message = Words(f"{word} does not belong into SQL of a mapping", f"映射的 SQL 里不能写 {word}")
        report.value("H304", place, message, Words('use kind = "procedure"', '请用 kind = "procedure"'))
        return False
    message = Words(
        f"{word[:20] or 'this'} is not allowed: a mapping reads and changes rows, nothing else",
        f"不允许 {word[:20]}：映射只能查询和修改数据行",
    )
    report.value("H304", place, message)
    return False


def check_called(sql: str, place: Path, report: Reporter, engine: str = "") -> None:
    """Report a procedure, function or package that a mapping must not call."""
    name = sql_facts.dangerous(sql, engine)
    if name:
        message = Words(f"{name} must not be called by a mapping", f"映射中不允许调用 {name}")
        report.value("H305", place, message)


def _report_facts(facts: sql_facts.Facts, place: Path, report: Reporter) -> None:
    if facts.unguarded:
        message = Words(
            "UPDATE or DELETE without a WHERE on a column changes every row",
            "UPDATE 或 DELETE 没有针对列的 WHERE 条件，会改动所有行",
        )
        report.value("H303", place, message, Words("add WHERE with the key", "请加上按主键的 WHERE 条件"))
    if facts.changes_schema:
        message = Words("the statement creates or changes database objects", "该语句会新建或修改数据库对象")
        report.value("H304", place, message)
    if not facts.understood:
        message = Words(
            "the statement could not be analysed; only its words were checked",
            "无法解析该语句，只做了关键字检查",
        )
        report.warn("H306", place, message, Words("look it over by hand", "请人工复核"))


def check_binds(used: Sequence[tuple[Path, str]], mapping: OperationMapping, report: Reporter) -> None:
    """Every bind of these statements (place, SQL) has a value, and every entry of `params` is used by one."""
    check_names([(path, sql_text.binds(sql, mapping.engine)) for path, sql in used], mapping, report)


def check_names(used: Iterable[tuple[Path, Iterable[str]]], mapping: OperationMapping, report: Reporter) -> None:
    """As `check_binds`, for the names that stand in something else than SQL."""
    check_params(mapping.params, mapping, report)
    known = {param.name for param in mapping.params}
    names: set[str] = set()
    for path, found in used:
        for name in found:
            if name not in known and name not in names:
                check_implicit(name, path, mapping, report)
            names.add(name)
    report_unused(mapping.params, names, report)


def report_unused(params: Iterable[Param], names: Iterable[str], report: Reporter) -> None:
    """Report the entries of `params` whose name is not among `names`."""
    used = frozenset(names)
    for param in params:
        if param.name not in used:
            message = Words(f"no statement uses :{param.name}", f"没有语句用到 :{param.name}")
            report.value("H220", (*param.path, "name"), message, did_you_mean(param.name, sorted(used)))


def check_order(mapping: OperationMapping, facts: StatementFacts, report: Reporter) -> None:
    """A list needs an order, and both page binds or none."""
    if not mapping.operation.page_size or not mapping.results:
        return
    sources = {param.name: param.source for param in mapping.params}
    binds = {sources.get(name) or f"${name}" for name in sql_text.binds(facts.sql, mapping.engine)}
    has_after, has_limit = "$page_after" in binds, "$page_limit" in binds
    key = next((result for result in mapping.results if result.page_key), None)
    if key is not None and not (has_after and has_limit):
        message = Words(
            "page_key needs :page_after and :page_limit in the SQL",
            "写了 page_key，SQL 中就必须使用 :page_after 和 :page_limit",
        )
        fix = Words(
            "WHERE (:page_after IS NULL OR key > :page_after) ORDER BY key, with a limit of :page_limit rows",
            "WHERE (:page_after IS NULL OR 主键 > :page_after) ORDER BY 主键，并限制行数为 :page_limit",
        )
        report.value("H229", (*key.path, "page_key"), message, fix)
    if key is None and (has_after or has_limit):
        message = Words(
            "the SQL pages but the result names no page_key", "SQL 使用了分页参数，但返回结果没有写 page_key"
        )
        report.key("H229", mapping.results[0].path, message, Words('add page_key = "…"', '补上 page_key = "…"'))
    if not facts.ordered:
        message = Words(
            "rows come in no certain order, so that pages may overlap",
            "没有 ORDER BY：行的顺序不确定，分页可能重复或遗漏",
        )
        report.warn("H307", facts.path, message, Words("add ORDER BY with the key", "请按主键加上 ORDER BY"))
