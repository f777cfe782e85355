"""``his160 mapping preview | rehearse | test``: one operation tried on the live database, and the files' own tests."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import Message

from agent.commands.mapping_options import tool_parser
from agent.commands.mapping_steps import step_json, step_text
from agent.commands.mapping_view import View, add_published, read_view
from agent.commands.mapping_watch_preview import add_watch_options, is_watch, preview_watch
from agent.commands.options import text_or_file
from agent.console import say
from agent.contract_json import ContractJsonError, from_json
from agent.errors import explain, to_status
from his_db.contract import mappable_names, operation
from his_db.document.finding import nearest
from his_db.document.problem import LANGS
from his_db.generation import compile_generation
from his_db.mapping.load import MappingSet
from his_db.mapping.trial import run_tests
from his_db.workbench.recorded import run_recordings
from his_db.workbench.trial_run import Trial, TrialRefused, preview, rehearse

_RECORDED: Final = Path("sample", "recorded")  # beside the mappings of a pack


def preview_main(arguments: Sequence[str]) -> int:
    """Exit code 0: it answered; 1: it was refused, and the reason is shown. `watch:NAME`: see mapping_watch_preview."""
    parser = _parser("preview", "试运行一个查询或监视 / run a read, or a watch")
    add_watch_options(parser)
    options = parser.parse_args(arguments)
    if is_watch(options.operation):
        watched = read_view(parser, options)
        return preview_watch(parser, options, watched, watched.site.load())
    if options.wait or options.before or options.after:
        parser.error("--wait、--before、--after 只用于 watch:名称 / are for watch:NAME only")
    view, mapping_set, request = _given(parser, options)
    try:
        trial = preview(view.site, mapping_set, options.operation, request)
    except TrialRefused as error:
        parser.error(f"{error.zh} / {error.en}")
    _print(trial, view, options, rehearsed=False)
    return 0 if trial.error is None else 1


def rehearse_main(arguments: Sequence[str]) -> int:
    """Exit code 0: it would have succeeded and left nothing; 1: refused, or it committed by itself."""
    parser = _parser("rehearse", "演练一个写操作并回滚 / run a write and roll it back")
    options = parser.parse_args(arguments)
    view, mapping_set, request = _given(parser, options)
    try:
        trial = rehearse(view.site, mapping_set, options.operation, request)
    except TrialRefused as error:
        parser.error(f"{error.zh} / {error.en}")
    _print(trial, view, options, rehearsed=True)
    return 1 if trial.error is not None or trial.committed else 0


def test_main(arguments: Sequence[str]) -> int:
    """Exit code 0: all passed; 1: some did not."""
    parser = tool_parser(
        "test",
        "运行 [[test]] 和录制的应答，不需要数据库 / run the [[test]] and what was recorded, without a database",
    )
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    parser.add_argument("--lang", choices=LANGS, default="both", help="语言 / language")
    parser.add_argument(
        "--recorded",
        type=Path,
        metavar="DIR",
        help="重放这里录制的 HIS 应答（默认：适配包自带的） / replay what an HIS once answered (those of the pack)",
    )
    add_published(parser)
    options = parser.parse_args(arguments)
    view = read_view(parser, options)
    mapping_set = view.site.load()
    generation = compile_generation(mapping_set)
    outcomes = run_tests(mapping_set, generation)
    folder = options.recorded or view.site.folder.parent / _RECORDED
    if options.recorded or folder.is_dir():
        if not any(folder.glob("*.json")):
            parser.error(f"{folder} 中没有录制的 *.json / there is no recording (*.json)")
        try:
            outcomes += run_recordings(folder, mapping_set, generation)
        except (OSError, ValueError) as error:
            parser.error(f"无法读取 {folder} / cannot be read: {error}")
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
        print(json.dumps({"mappings": view.as_json(), "tests": found}, ensure_ascii=False, indent=2))
        return 1 if failed else 0
    print(view.text())
    for outcome in outcomes:
        mark = "通过 ok    " if outcome.passed else "失败 FAILED"
        print(f"{mark} {outcome.mapping} {outcome.name}")
        for problem in outcome.problems:
            print(problem.render(options.lang))
    say(f"共 {len(outcomes)} 项，失败 {len(failed)}", f"{len(outcomes)} tests, {len(failed)} failed")
    return 1 if failed else 0


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = tool_parser(name, description)
    parser.add_argument(
        "operation", metavar="OPERATION", help="例如 / for example CatalogService.ListSlots, watch:orders"
    )
    parser.add_argument("--request", default="{}", metavar="JSON", help="请求 / request; @FILE: 文件; - : stdin")
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    add_published(parser)
    return parser


def _given(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[View, MappingSet, Message]:
    if options.operation not in mappable_names():
        hint = nearest(options.operation, mappable_names())
        parser.error(f"没有接口 {options.operation} / no such operation{f'; {hint}?' if hint else ''}")
    about = operation(options.operation)
    text = text_or_file(parser, options.request)
    try:
        request = from_json(text, about.request_class)
    except ContractJsonError as error:
        parser.error(f"--request 不符合 {about.request.name} / does not fit {about.request.name}: {error}")
    view = read_view(parser, options)
    return view, view.site.load(), request


def _print(trial: Trial, view: View, options: argparse.Namespace, *, rehearsed: bool) -> None:
    if options.json:
        print(json.dumps({"mappings": view.as_json(), **_json(trial)}, ensure_ascii=False, indent=2))
        return
    print(view.text())
    for step in trial.steps:
        step_text(step)
    print(f"== {trial.operation} {trial.milliseconds:.1f} ms")
    if trial.message is not None:
        print(json.dumps(trial.message, ensure_ascii=False, indent=2))
    _print_status(trial)
    if rehearsed:
        _print_outcome(trial)


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
        "steps": [step_json(step) for step in trial.steps],
        "message": trial.message,
        "status": status,
        "committed": trial.committed,
        "evidence": list(trial.evidence),
    }
