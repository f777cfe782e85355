"""``his160 mapping schema | fields``: what a mapping file may hold, for editors and for people."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from agent.console import say, say_error
from his_db.workbench.field_reference import field_reference
from his_db.workbench.json_schema import mapping_schema


def schema_main(arguments: Sequence[str]) -> int:
    """Exit code 0."""
    options = _parser("schema", "映射文件的 JSON Schema / JSON Schema of mapping files").parse_args(arguments)
    return _put(json.dumps(mapping_schema(), ensure_ascii=False, indent=2) + "\n", options)


def fields_main(arguments: Sequence[str]) -> int:
    """Exit code 0; 1 with --check: the file is out of date."""
    options = _parser("fields", "字段手册 / reference of the contract's fields").parse_args(arguments)
    return _put(field_reference(), options)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"his160 mapping {name}", description=description)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--write", type=Path, metavar="FILE", help="写入文件 / write to a file")
    group.add_argument("--check", type=Path, metavar="FILE", help="核对文件是否最新 / is the file up to date")
    return parser


def _put(text: str, options: argparse.Namespace) -> int:
    try:
        if options.check is not None:
            if options.check.read_text(encoding="utf-8") == text:
                return 0
            say_error(f"{options.check} 不是最新的", "it is out of date: use --write")
            return 1
        if options.write is not None:
            options.write.parent.mkdir(parents=True, exist_ok=True)
            options.write.write_text(text, encoding="utf-8")
            say(f"已写入 {options.write}", "written")
            return 0
    except OSError as error:
        say_error(f"{error.filename} 无法读写", error.strerror or type(error).__name__)
        return 1
    print(text, end="")
    return 0
