"""``his160 mapping discover | scaffold``: from an unknown database to a first mapping file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from agent.commands.mapping_options import choose_source, read_site, tool_parser
from agent.console import say, say_error
from his_db.catalogue.model import Catalogue
from his_db.contract import mappable_names, operation
from his_db.document.finding import nearest
from his_db.workbench.discover import discover, discover_routines
from his_db.workbench.scaffold import Scaffold, ScaffoldRefused, scaffold_procedure, scaffold_table
from his_db.workbench.site import Site, connected

_SUBJECTS = {
    "department": "科室", "doctor": "医生", "schedule": "排班", "slot": "号源", "patient": "患者",
    "appointment": "预约/挂号", "payment": "结算/支付",
}  # fmt: skip


def discover_main(arguments: Sequence[str]) -> int:
    """Exit code 0."""
    parser = tool_parser("discover", "浏览数据库，推荐对应的表和字段 / list the database and suggest matches")
    parser.add_argument("--source", metavar="NAME", help="数据源 / source, when there are several")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="每类最多几个 / tables for each subject (3)")
    parser.add_argument("--all", action="store_true", help="列出所有表、视图、存储过程 / list every object too")
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    options = parser.parse_args(arguments)
    site = read_site(parser, options)
    catalogue = _catalogue(parser, site, options.source)
    tables = discover(catalogue, top=max(1, options.top))
    routines = discover_routines(catalogue, top=max(1, options.top))
    if options.json:
        found = {
            "subjects": {name: [asdict(match) for match in matches] for name, matches in tables.items()},
            "procedures": {name: [asdict(match) for match in matches] for name, matches in routines.items()},
        }
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return 0
    if options.all:
        _list(catalogue)
    for name, matches in tables.items():
        print(f"{_SUBJECTS[name]} {name}")
        for match in matches:
            print(f"  {match.confidence:.0%}  {match.table}  {match.kind} {match.comment}".rstrip())
        for field in matches[0].fields if matches else ():
            if not field.field.startswith("~"):
                print(
                    f"        {field.field:<22} {field.column:<20} {field.type:<18} {field.confidence:.0%} {field.why}"
                )
    for name, found_routines in routines.items():
        for routine in found_routines:
            print(f"{name:<36} {routine.confidence:.0%}  {routine.routine}  {routine.comment}".rstrip())
    return 0


def scaffold_main(arguments: Sequence[str]) -> int:
    """Exit code 0: written; 1: it cannot be, or the file is there already."""
    parser = tool_parser("scaffold", "按表或存储过程生成映射初稿 / write a first mapping file")
    parser.add_argument("operation", metavar="OPERATION", help="例如 / for example CatalogService.ListDoctors")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--table", metavar="T", help="表或视图 / table or view")
    group.add_argument("--procedure", metavar="P", help="存储过程或函数 / procedure or function")
    parser.add_argument("--source", metavar="NAME", help="数据源 / source, when there are several")
    parser.add_argument("--stdout", action="store_true", help="只显示，不写文件 / print it, write nothing")
    options = parser.parse_args(arguments)
    if options.operation not in mappable_names():
        hint = nearest(options.operation, mappable_names())
        parser.error(f"没有接口 {options.operation} / no such operation{f'; {hint}?' if hint else ''}")
    site = read_site(parser, options)
    settings = choose_source(parser, site, options.source)
    catalogue = _catalogue(parser, site, options.source)
    about = operation(options.operation)
    try:
        if options.table is not None:
            found = scaffold_table(about, catalogue, options.table, source=settings.name)
        else:
            found = scaffold_procedure(about, catalogue, options.procedure, source=settings.name)
    except ScaffoldRefused as error:
        say_error(error.zh, error.en)
        return 1
    if options.stdout:
        print(found.text, end="")
        return 0
    return _write(site, found)


def _write(site: Site, found: Scaffold) -> int:
    path = site.folder / found.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(found.text)
    except FileExistsError:
        say_error(
            f"{path} 已存在，不覆盖；可用 --stdout 查看", "the file is there already and is left alone; see --stdout"
        )
        return 1
    except OSError as error:
        say_error(f"无法写入 {path}", error.strerror or type(error).__name__)
        return 1
    say(
        f"已写入 {path}：已推断 {found.resolved} 项，待补 {found.open} 项",
        f"{found.resolved} guessed, {found.open} to fill in",
    )
    return 0


def _catalogue(parser: argparse.ArgumentParser, site: Site, name: str | None) -> Catalogue:
    with connected(choose_source(parser, site, name)) as connection:
        return connection.catalogue()


def _list(catalogue: Catalogue) -> None:
    for table in catalogue.tables.values():
        print(f"{table.kind:<9} {table.key}  {len(table.columns)} 列 columns  {table.comment}".rstrip())
    for key, routines in catalogue.routines.items():
        for routine in routines:
            shown = ", ".join(f"{p.direction} {p.name} {p.type}".strip() for p in routine.parameters)
            print(f"{routine.kind:<9} {key}({shown})  {routine.comment}".rstrip())
