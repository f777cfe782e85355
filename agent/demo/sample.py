"""``his160 demo his``: nothing but the sample HIS, in a SQLite file, to practise on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from agent.console import say, say_error
from his_db.registry import load_sample
from his_db.sample import FULL, SMALL, hospital_now


def main(argv: Sequence[str]) -> int:
    """Entry of the command: 0 made, 1 the file is there already or cannot be written."""
    arguments = _parser().parse_args(argv)
    file: Path = arguments.file
    if file.exists():
        say_error(f"{file} 已存在，未改动它", f"{file} is there already and is left alone")
        return 1
    if not file.absolute().parent.is_dir():
        say_error(f"文件夹 {file.absolute().parent} 不存在", "there is no such folder")
        return 1
    size = FULL if arguments.full else SMALL
    made = load_sample("zebone").create(
        f"sqlite:///{file.absolute().as_posix()}", today=hospital_now().date(), size=size
    )
    say(
        f"已建好样例 HIS（众邦风格）{file}：科室 {made.departments}，医生 {made.doctors}，"
        f"号 {made.slots}，患者 {made.patients}",
        "a sample HIS, all persons are made up; its pack is zebone",
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    prog = "his160 demo his"
    parser = argparse.ArgumentParser(prog=prog, description="建一个练习用的样例 HIS / a sample HIS to practise on")
    parser.add_argument("file", type=Path, metavar="FILE", help="新的 SQLite 文件 / a new SQLite file")
    parser.add_argument("--full", action="store_true", help="与演示一样大 / as large as the demo's")
    return parser
