"""``his160 mapping preview | rehearse | test``: one operation tried on the live database, and the files' own tests."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from agent.commands.mapping_options import read_site, tool_parser
from agent.console import say
from agent.contract_json import ContractJsonError, from_json
from agent.errors import explain, to_status
from his_db.contract import mappable_names, operation
from his_db.document.finding import nearest
from his_db.document.problem import LANGS
from his_db.mapping.load import MappingSet
from his_db.mapping.trial import run_tests
from his_db.workbench.site import Site
from his_db.workbench.trial_run import ShownRows, Trial, TrialRefused, preview, rehearse


def preview_main(arguments: Sequence[str]) -> int:
    """Exit code 0: it answered; 1: it was refused, and the reason is shown."""
    parser, options = _parsed("preview", "试运行一个查询 / run a read", arguments)
    site, mapping_set, request = _given(parser, options)
    try:
        trial = preview(site, mapping_set, options.operation, request)
    except TrialRefused as error:
        parser.error(f"{error.zh} / {error.en}")
    _print(trial, options, rehearsed=False)
    return 0 if trial.error is None else 1


def rehearse_main(arguments: Sequence[str]) -> int:
    """Exit code 0: it would have succeeded and left nothing; 1: refused, or it committed by itself."""
    parser, options = _parsed("rehearse", "演练一个写操作并回滚 / run a write and roll it back", arguments)
    site, mapping_set, request = _given(parser, options)
    try:
        trial = rehearse(site, mapping_set, options.operation, request)
    except TrialRefused as error:
        parser.error(f"{error.zh} / {error.en}")
    _print(trial, options, rehearsed=True)
    return 1 if trial.error is not None or trial.committed else 0


def test_main(arguments: Sequence[str]) -> int:
    """Exit code 0: all passed; 1: some did not."""
    parser = tool_parser(
        "test", "运行映射文件中的 [[test]]，不需要数据库 / run the [[test]] of the files, without a database"
    )
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    parser.add_argument("--lang", choices=LANGS, default="both", help="语言 / language")
    options = parser.parse_args(arguments)
    site = read_site(parser, options)
    mapping_set = site.load()
    outcomes = run_tests(mapping_set)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if options.json:
        found = [
            {
                "file": outcome.file,
                "mapping": outcome.mapping,
                "name": outcome.name,
                "passed": outcome.passed,
                "problems": [problem.render(options.lang) for problem in outcome.problems],
            }
            for outcome in outcomes
        ]
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return 1 if failed else 0
    for outcome in outcomes:
        mark = "通过 ok    " if outcome.passed else "失败 FAILED"
        print(f"{mark} {outcome.mapping} {outcome.name}")
        for problem in outcome.problems:
            print(problem.render(options.lang))
    say(f"共 {len(outcomes)} 项，失败 {len(failed)}", f"{len(outcomes)} tests, {len(failed)} failed")
    return 1 if failed else 0


def _parsed(
    name: str, description: str, arguments: Sequence[str]
) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = tool_parser(name, description)
    parser.add_argument("operation", metavar="OPERATION", help="例如 / for example CatalogService.ListSlots")
    parser.add_argument("--request", default="{}", metavar="JSON", help="请求 / request; - : stdin")
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    return parser, parser.parse_args(arguments)


def _given(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[Site, MappingSet, Message]:
    if options.operation not in mappable_names():
        hint = nearest(options.operation, mappable_names())
        parser.error(f"没有接口 {options.operation} / no such operation{f'; {hint}?' if hint else ''}")
    about = operation(options.operation)
    text = sys.stdin.read() if options.request == "-" else options.request
    try:
        request = from_json(text, about.request_class)
    except ContractJsonError as error:
        parser.error(f"--request 不符合 {about.request.name} / does not fit {about.request.name}: {error}")
    site = read_site(parser, options)
    return site, site.load(), request


def _print(trial: Trial, options: argparse.Namespace, *, rehearsed: bool) -> None:
    if options.json:
        print(json.dumps(_json(trial), ensure_ascii=False, indent=2))
        return
    for step in trial.steps:
        print(f"-- {step.milliseconds:.1f} ms")
        print(step.sql)
        print("   " + ("  ".join(f":{name} = {value}" for name, value in step.binds.items()) or "(no binds)"))
        for rows in step.sets:
            _print_rows(rows)
        if step.out:
            print("   OUT " + "  ".join(f"{name} = {value}" for name, value in step.out.items()))
        if step.error:
            print(f"   !! {step.error}")
    print(f"== {trial.operation} {trial.milliseconds:.1f} ms")
    if trial.message is not None:
        print(json.dumps(trial.message, ensure_ascii=False, indent=2))
    _print_status(trial)
    if rehearsed:
        _print_outcome(trial)


def _print_rows(rows: ShownRows) -> None:
    if not rows.columns:
        print(f"   {rows.changed} 行已修改 / rows changed")
        return
    print("   " + " | ".join(rows.columns))
    for row in rows.rows:
        print("   " + " | ".join(row))
    if rows.more:
        print(f"   … 还有 {rows.more} 行 / {rows.more} more rows")


def _print_status(trial: Trial) -> None:
    if trial.error is None:
        print("status OK")
        return
    explained = explain(to_status(trial.error, operation=trial.operation))
    retry = f", retry after {explained.retry_after.total_seconds():g} s" if explained.retry_after else ""
    print(f"status {explained.code} {explained.reason}: {explained.text}{retry}")
    print(f"       {trial.error.detail}")


def _print_outcome(trial: Trial) -> None:
    for line in trial.evidence:
        print(f"   {line}")
    if trial.committed:
        say(
            "警告：数据已被提交，演练没有撤销！请人工核对并冲正",
            "WARNING: it was committed, the rehearsal could not undo it",
        )
    elif trial.committed is None:
        say(
            "无法判断是否已提交，请到 HIS 中核对",
            "it cannot be told whether something was committed: look into the HIS",
        )
    else:
        say("已回滚，数据未改变（序列号除外）", "rolled back; nothing stays but used sequence numbers")


def _json(trial: Trial) -> dict[str, Any]:
    status: dict[str, Any] = {"code": "OK"}
    if trial.error is not None:
        explained = explain(to_status(trial.error, operation=trial.operation))
        status = {
            "code": explained.code,
            "reason": explained.reason,
            "text": explained.text,
            "detail": trial.error.detail,
        }
    return {
        "operation": trial.operation,
        "steps": [
            {
                "sql": step.sql,
                "binds": step.binds,
                "results": [
                    {
                        "columns": list(rows.columns),
                        "rows": [list(row) for row in rows.rows],
                        "more": rows.more,
                        "changed": rows.changed,
                    }
                    for rows in step.sets
                ],
                "out": step.out,
                "milliseconds": round(step.milliseconds, 2),
                "error": step.error,
            }
            for step in trial.steps
        ],
        "message": trial.message,
        "status": status,
        "committed": trial.committed,
        "evidence": list(trial.evidence),
    }
