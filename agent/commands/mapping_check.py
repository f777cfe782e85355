"""``his160 mapping check``: offline, online, deep; as text, JSON or SARIF."""

from __future__ import annotations

import json
from collections.abc import Sequence

from agent.commands.mapping_options import read_site, tool_parser
from agent.console import say
from agent.version import VERSION
from his_db.document.problem import LANGS, DocumentError, Problem, Problems, Severity
from his_db.workbench.check_online import OnlineCheck, SourceReport, check_online
from his_db.workbench.sarif import sarif
from his_db.workbench.site import Site

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
    options = parser.parse_args(arguments)
    site = read_site(parser, options)
    problems = Problems()
    sources: tuple[SourceReport, ...] = ()
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
            sources = found.sources
            code = EXIT_FINDINGS if problems else 0
    if options.format == "json":
        print(json.dumps(_json(site, revision, problems, sources), ensure_ascii=False, indent=2))
    elif options.format == "sarif":
        print(json.dumps(sarif(problems, VERSION, str(site.folder)), ensure_ascii=False, indent=2))
    else:
        _text(revision, problems, sources, options.lang)
    return code


def _text(revision: str, problems: Problems, sources: Sequence[SourceReport], lang: str) -> None:
    for source in sources:
        if source.version:
            login = f" {source.login}" if source.login else ""
            print(f"{source.name}: {source.version}{login} {source.charset} ({source.objects} 表 tables)")
    if len(problems):
        print(problems.render(lang))
    errors, warnings = len(problems.errors), len(problems.warnings)
    shown = f" {revision}" if revision else ""
    say(f"映射{shown}：错误 {errors}，警告 {warnings}", f"{errors} errors, {warnings} warnings")


def _json(site: Site, revision: str, problems: Problems, sources: Sequence[SourceReport]) -> dict[str, object]:
    return {
        "folder": str(site.folder),
        "revision": revision,
        "errors": len(problems.errors),
        "warnings": len(problems.warnings),
        "sources": [
            {"name": s.name, "engine": s.engine, "version": s.version, "login": s.login, "charset": s.charset}
            for s in sources
        ],
        "problems": [_problem(problem) for problem in problems.sorted()],
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
