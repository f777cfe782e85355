"""``his160 secret``: make a secret that a configuration may refer to."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.console import say, say_error
from agent.dpapi import DpapiError, protect


def main(arguments: Sequence[str]) -> int:
    """``protect FILE``: a password from the keyboard or a pipe into a file that only this Windows can read.

    Exit code 1: it cannot be protected here, or the file is there already.
    """
    parser = argparse.ArgumentParser(prog="his160 secret", description="制作密码文件 / make a secret")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    one = actions.add_parser("protect", help="用 Windows DPAPI 保护密码 / protect a password with Windows' DPAPI")
    one.add_argument("file", type=Path, metavar="FILE", help="新文件 / the new file")
    options = parser.parse_args(arguments)
    try:
        text = protect(_entered())
        with options.file.open("x", encoding="ascii") as file:
            file.write(text + "\n")
    except DpapiError as error:
        say_error("无法保护密码", str(error))
        if os.name != "nt":
            say_error(
                "Linux 上请用 systemd 凭据：his160 service install --credential 名称=文件",
                "on Linux use a credential of systemd: his160 service install --credential NAME=FILE",
            )
        return 1
    except FileExistsError:
        say_error(f"{options.file} 已存在，未改动它", f"{options.file} is there already and is left alone")
        return 1
    except OSError as error:
        say_error(f"无法写入 {options.file}", f"cannot write {options.file}: {error.strerror}")
        return 1
    say(
        f'已写入；配置中写作 password = "@dpapi:{options.file.name}"',
        "written; the configuration refers to it like this",
    )
    return 0


def _entered() -> str:
    """The password, twice when it is typed. Raises DpapiError for none, or for two that differ."""
    if sys.stdin is None or not sys.stdin.isatty():
        secret = (sys.stdin.readline() if sys.stdin is not None else "").rstrip("\r\n")
    else:
        secret = getpass.getpass("密码 password: ")
        if secret != getpass.getpass("再次输入 once more: "):
            raise DpapiError("the two differ 两次输入不一致")
    if not secret:
        raise DpapiError("nothing was entered 没有输入密码")
    return secret
