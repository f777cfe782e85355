"""``his160 doctor``: looks at machine, clock, disk, ports, certificates, relay, databases, mappings and store."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

from agent.commands.options import add_config
from agent.config import read_settings
from agent.doctor.check import Context, RunningAgent
from agent.doctor.examine import Examined, examine, exit_code
from agent.doctor.registry import AREAS
from agent.doctor.report import as_json, heading, lines_of, summary
from his_db.document.problem import LANGS, DocumentError


def main(arguments: Sequence[str]) -> int:
    """Exit code 0: nothing but notes; 1: errors; 2: usage; 78: an agent would not start with this configuration."""
    options = _parser().parse_args(arguments)
    reading = read_settings(options.config, os.environ)
    if reading.settings is None:
        raise DocumentError(reading.problems)  # nothing else can be looked at: there is no configuration
    settings = reading.settings
    context = Context(options.config.absolute(), reading, settings, RunningAgent(settings.state))
    areas = [area for area in AREAS if not options.only or area in options.only]
    if options.json:
        results = examine(context, areas)
        print(json.dumps(as_json(str(context.file), results), ensure_ascii=False, indent=2))
        return exit_code(results)
    last = ""

    def told(result: Examined) -> None:
        nonlocal last
        if result.area != last:
            last = result.area
            print(heading(last, options.lang), flush=True)
        for line in lines_of(result, options.lang):
            print(line, flush=True)

    print(context.file)
    results = examine(context, areas, told)
    print(summary(results, options.lang))
    return exit_code(results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="his160 doctor",
        description="体检：机器、时钟、磁盘、端口、证书、中继、数据库、映射、状态库；只读，不改动 HIS / "
        "looks at everything an agent needs; reads only",
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    parser.add_argument("--lang", choices=LANGS, default="both", help="语言 / language (both)")
    names = ", ".join(f"{name} {entry.zh}" for name, entry in AREAS.items())
    parser.add_argument(
        "--only", action="append", choices=tuple(AREAS), metavar="AREA", help=f"只查某一项，可多次 / areas: {names}"
    )
    return parser
