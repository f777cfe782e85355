"""``his160 mapping publish | diff | rollback | history``: revisions of the mapping folder."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict

from agent.commands.mapping_options import needs_approval, read_site, tool_parser
from agent.commands.mapping_view import view_of
from agent.config import load_settings
from agent.console import say, say_error
from agent.person import write_down
from his_db.workbench.revisions import Entry, RevisionRefused, Revisions
from his_db.workbench.site import Site
from sync.audit import as_json

_ACTIONS = {"submit": "提交", "publish": "发布", "rollback": "回退"}


def publish_main(arguments: Sequence[str]) -> int:
    """Exit code 0: live, or submitted; 1: refused; 78: the files are wrong."""
    parser = tool_parser("publish", "发布为正式版本 / make the folder the live revision")
    _add_who(parser)
    parser.add_argument("--approve", action="store_true", help="以第二人身份批准提交 / approve what another submitted")
    parser.add_argument("--require-approval", action="store_true", help="需要第二人批准 / a second person must approve")
    options = parser.parse_args(arguments)
    site, revisions = _given(parser, options)
    try:
        entry = revisions.publish(
            site,
            author=options.author,
            note=options.note,
            approve=options.approve,
            require_approval=options.require_approval or needs_approval(options),
        )
    except RevisionRefused as error:
        say_error(error.zh, error.en)
        return 1
    _write_down(options, entry)
    if entry.action == "submit":
        say(
            f"版本 {entry.revision} 已提交，等待第二人执行 publish --approve", "submitted: a second person must approve"
        )
    else:
        say(f"版本 {entry.revision} 已成为正式版本（原 {entry.previous or '无'}）", "live")
    return 0


def rollback_main(arguments: Sequence[str]) -> int:
    """Exit code 0: the earlier revision is live; 1: refused."""
    parser = tool_parser("rollback", "回到以前的版本 / go back to an earlier revision")
    parser.add_argument("revision", nargs="?", default="", metavar="REVISION", help="默认为上一版本 / the one before")
    _add_who(parser)
    options = parser.parse_args(arguments)
    _, revisions = _given(parser, options)
    try:
        entry = revisions.rollback(author=options.author, note=options.note, revision=options.revision)
    except RevisionRefused as error:
        say_error(error.zh, error.en)
        return 1
    _write_down(options, entry)
    say(f"已回到版本 {entry.revision}（原 {entry.previous}）", "live")
    return 0


def diff_main(arguments: Sequence[str]) -> int:
    """Exit code 0: no difference; 1: there are some."""
    parser = tool_parser("diff", "与已发布版本比较 / compare the folder with a published revision")
    parser.add_argument("revision", nargs="?", default="", metavar="REVISION", help="默认为正式版本 / the live one")
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    options = parser.parse_args(arguments)
    site, revisions = _given(parser, options)
    try:
        changes = revisions.diff(site.folder, options.revision)
    except RevisionRefused as error:
        say_error(error.zh, error.en)
        return 2
    if options.json:
        found = [asdict(change) for change in changes]
        print(
            json.dumps({"mappings": view_of(site, options).as_json(), "changes": found}, ensure_ascii=False, indent=2)
        )
    else:
        print(view_of(site, options).text())
        for change in changes:
            print(f"{change.what} {change.file}")
            for line in change.lines:
                print(f"  {line}")
        say(f"共 {len(changes)} 个文件不同", f"{len(changes)} files differ")
    return 1 if changes else 0


def history_main(arguments: Sequence[str]) -> int:
    """Exit code 0; 1: the history was tampered with."""
    parser = tool_parser("history", "发布历史 / what was published")
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    options = parser.parse_args(arguments)
    site, revisions = _given(parser, options)
    try:
        entries, live = revisions.history(), revisions.live()
    except RevisionRefused as error:
        say_error(error.zh, error.en)
        return 1
    if options.json:
        about = {"mappings": view_of(site, options).as_json(), "live": live}
        print(json.dumps({**about, "entries": [asdict(entry) for entry in entries]}, ensure_ascii=False, indent=2))
        return 0
    print(view_of(site, options).text())
    for entry in entries:
        print(_line(entry, live))
    return 0


def _write_down(options: argparse.Namespace, entry: Entry) -> None:
    """A published revision into the audit of the agent that the configuration names; without one there is none."""
    if options.source_url is not None:
        return
    settings = load_settings(options.config, os.environ, require_files=False, secrets=False)
    action = "approve" if entry.approver else entry.action
    facts = {"author": entry.author, "approver": entry.approver, "previous": entry.previous, "note": entry.note}
    parameters = as_json(digest=entry.digest, **facts)
    write_down(settings, f"mapping.{action}", result="done", parameters=parameters, revision=entry.revision)


def _line(entry: Entry, live: str) -> str:
    mark = "*" if entry.revision == live and entry.action != "submit" else " "
    approved = f" 批准 approved by {entry.approver}" if entry.approver else ""
    what = f"{_ACTIONS[entry.action]} {entry.action:<8}"
    return f"{mark} {entry.at} {what} {entry.revision} {entry.author}{approved}  {entry.note}"


def _add_who(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--author", required=True, metavar="NAME", help="操作人 / who does it")
    parser.add_argument("--note", required=True, metavar="TEXT", help="说明 / why")


def _given(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[Site, Revisions]:
    site = read_site(parser, options)
    if site.state is None:
        parser.error("需要 --state / --state is required without a configuration file")
    return site, Revisions(site.state)
