"""``his160 mapping check``: offline, online, deep; as text, JSON or SARIF."""

from __future__ import annotations

import json
from collections.abc import Sequence

from agent.commands.mapping_options import tool_parser
from agent.commands.mapping_view import View, add_published, read_view
from agent.console import say
from agent.version import VERSION
from his_db.document.problem import LANGS, DocumentError, Problem, Problems, Severity
from his_db.workbench.check_online import OnlineCheck, SourceReport, check_online
from his_db.workbench.code_census import Census
from his_db.workbench.sarif import sarif

EXIT_FINDINGS = 1
EXIT_BAD = 78


def main(arguments: Sequence[str]) -> int:
    """Exit code 0: nothing but warnings; 1: the database does not fit; 78: the files are wrong."""
    parser = tool_parser("check", "检查映射 / check the mappings")
    parser.add_argument("--online", action="store_true", help="连接数据库核对 / hold them against the databases")
    parser.add_argument(
        "--deep", action="store_true", help="让数据库解析每条语句（不执行） / let it plan each statement"
    )
    parser.add_argument("--format", choices=("text", "json", "sarif"), default="text", help="输出格式 / format")
    parser.add_argument("--lang", choices=LANGS, default="both", help="语言 / language")
    add_published(parser)
    options = parser.parse_args(arguments)
    view = read_view(parser, options)
    site = view.site
    problems = Problems()
    sources: tuple[SourceReport, ...] = ()
    censuses: tuple[Census, ...] = ()
    revision = ""
    code = 0
    try:
        mapping_set = site.load()
    except DocumentError as error:
        problems.extend(error.problems)
        code = EXIT_BAD
    else:
        revision = mapping_set.revision
        problems.extend(mapping_set.warnings)
        if options.online or options.deep:
            found: OnlineCheck = check_online(site, mapping_set, deep=options.deep)
            problems.extend(found.problems)
            sources, censuses = found.sources, found.censuses
            code = EXIT_FINDINGS if problems else 0
    if options.format == "json":
        print(json.dumps(_json(view, revision, problems, sources, censuses), ensure_ascii=False, indent=2))
    elif options.format == "sarif":
        print(json.dumps(sarif(problems, VERSION, str(site.folder), view.as_json()), ensure_ascii=False, indent=2))
    else:
        print(view.text())
        _text(revision, problems, sources, censuses, options.lang)
    return code


def _text(
    revision: str, problems: Problems, sources: Sequence[SourceReport], censuses: Sequence[Census], lang: str
) -> None:
    for source in sources:
        if source.version:
            login = f" {source.login}" if source.login else ""
            print(f"{source.name}: {source.version}{login} {source.charset} ({source.objects} 表 tables)")
    if censuses:
        columns = len({census.where for census in censuses if not census.failed.en})
        rows = sum(census.rows for census in censuses)
        say(f"代码列：已统计 {columns} 列，{rows} 行", f"code columns: {columns} counted, {rows} rows")
    if len(problems):
        print(problems.render(lang))
    errors, warnings = len(problems.errors), len(problems.warnings)
    shown = f" {revision}" if revision else ""
    say(f"映射{shown}：错误 {errors}，警告 {warnings}", f"{errors} errors, {warnings} warnings")


def _json(
    view: View, revision: str, problems: Problems, sources: Sequence[SourceReport], censuses: Sequence[Census]
) -> dict[str, object]:
    return {
        "mappings": view.as_json(),
        "revision": revision,
        "errors": len(problems.errors),
        "warnings": len(problems.warnings),
        "sources": [
            {"name": s.name, "engine": s.engine, "version": s.version, "login": s.login, "charset": s.charset}
            for s in sources
        ],
        "codes": [_census(census) for census in censuses],
        "problems": [_problem(problem) for problem in problems.sorted()],
    }


def _census(census: Census) -> dict[str, object]:
    return {
        "column": census.where,
        "field": census.coded.spec.to,
        "codes": census.coded.spec.codes,
        "rows": census.rows,
        "all_rows": census.is_whole,
        "failed": census.failed.en,
        "values": [{"value": item.shown, "rows": item.rows, "verdict": item.verdict} for item in census.counts],
    }


def _problem(problem: Problem) -> dict[str, object]:
    place = problem.place
    return {
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "code": problem.code,
        "severity": "error" if problem.severity is Severity.ERROR else "warning",
        "message": problem.message,
        "message_zh": problem.message_zh,
        "fix": problem.fix,
        "fix_zh": problem.fix_zh,
    }
