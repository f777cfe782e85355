"""``his160 init``: the first config.toml of a site, and the mappings of the chosen pack beside it."""

from __future__ import annotations

import argparse
import getpass
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agent.config import load_settings
from agent.config_place import pack_names
from agent.console import say, say_error
from agent.first_config import NO_PACK, WRITTEN_FOR, FirstConfig, config_text, page_of_pack, source_of_pack
from his_db.document.problem import DocumentError
from his_db.registry import ENGINES

_CONFIG: Final = "config.toml"
_MAPPINGS: Final = "mappings"
_REFERENCES: Final = frozenset({"@file", "@env", "@credential", "@dpapi"})
_PASSWORD: Final = "@dpapi:his.password.dpapi" if os.name == "nt" else "@file:his.password"


class _Missing(Exception):
    """An answer that is needed and cannot be asked for. ``str()``: the option."""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; 1: something is there already, or cannot be written; 2: an answer is missing or does not fit; 78 (by
    DocumentError): the check would not take it, and nothing is written."""
    parser = _parser()
    options = parser.parse_args(arguments)
    ask = _ask if sys.stdin is not None and sys.stdin.isatty() and not options.no_input else None
    try:
        first = _answers(options, ask)
    except _Missing as error:
        parser.error(f"缺少 {error}（可用参数给出）/ {error} is missing: give it as an option")
    except (EOFError, KeyboardInterrupt):
        return 130
    _check(parser, first)
    code = _written(options.folder, first)
    if code == 0:
        if ask is not None:
            _ask_password(options.folder, first)
        _say_next(options.folder, first)
    return code


def _answers(options: argparse.Namespace, ask: Callable[[str, str], str] | None) -> FirstConfig:
    """From options, else from questions. Raises _Missing."""

    def need(option: str, question: str, default: str = "", *, required: bool = True) -> str:
        given: str | None = getattr(options, option)
        if given is None and ask is not None:
            given = ask(question, default)
        if given is None:
            given = default
        if required and not given:
            raise _Missing(f"--{option}")
        return given

    code = need("code", "机构代码 site code")
    name = need("name", "医院名称 name of the hospital", required=False)
    engine = need("engine", f"数据库 database engine ({', '.join(sorted(ENGINES))})")
    pack = need("pack", f"适配包 pack ({', '.join((*pack_names(), NO_PACK))})")
    database = need("database", "库名或文件 database", "his.db" if engine == "sqlite" else "")
    host = user = password = ""
    if engine != "sqlite":
        host = need("host", "主机 host")
        user = need("user", "账号 user", required=engine != "http")
        password = need("password", "密码引用 reference of the password", _PASSWORD if user else "", required=False)
    relay = need("relay", "160 中继地址，逗号分隔；空 = 以后再填 relay addresses, or none yet", required=False)
    return FirstConfig(
        code=code,
        name=name,
        engine=engine,
        pack=pack,
        database=database,
        host=host,
        port=options.port,
        user=user,
        password=password,
        schema=options.schema,
        relay=tuple(part.strip() for part in relay.split(",") if part.strip()),
    )


def _check(parser: argparse.ArgumentParser, first: FirstConfig) -> None:
    """What does not fit ends the program with a usage error."""
    if first.engine not in ENGINES:
        parser.error(f"--engine 应为 / must be one of: {', '.join(sorted(ENGINES))}")
    if first.pack not in (*pack_names(), NO_PACK):
        parser.error(f"--pack 应为 / must be one of: {', '.join((*pack_names(), NO_PACK))}")
    kind, _, where = first.password.partition(":")
    if first.password and (kind not in _REFERENCES or not where):
        # It would stand in the file and in the history of the shell: it is not repeated here either.
        parser.error(
            '--password 只接受引用，不接受密码本身，例如 "@file:his.password" / takes a reference, never a password'
        )
    if first.engine == "http" and first.pack != NO_PACK:
        parser.error(
            f"适配包 {first.pack} 是 SQL 映射，不能用于 http 接口；请用 --pack {NO_PACK} / "
            f"the pack {first.pack} is SQL and cannot speak to an http interface: --pack {NO_PACK}"
        )


def _written(folder: Path, first: FirstConfig) -> int:
    config, mappings = folder / _CONFIG, folder / _MAPPINGS
    for path in (config, mappings):
        if path.exists():
            say_error(f"{path} 已存在，未改动任何文件", f"{path} is there already: nothing was written")
            return 1
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made.append(mappings)
        source = source_of_pack(first.pack, first.engine)
        if source is None:
            mappings.mkdir()
        else:
            shutil.copytree(source, mappings, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        with config.open("x", encoding="utf-8", newline="\n") as file:
            made.append(config)
            file.write(config_text(first))
        _accepted(config)
    except OSError as error:
        _removed(made)
        say_error(f"无法写入 {folder}", f"cannot write: {error.strerror or type(error).__name__}")
        return 1
    except DocumentError:
        _removed(made)
        raise  # an address, a name: told with its line, and nothing stays
    say(f"已写入 {config}", "written")
    if (page := page_of_pack(first.pack)) is not None:
        say(f"适配包说明（权限、要改的、坑）：{page}", "what the DBA has to grant, change and know of this pack")
    return 0


def _accepted(config: Path) -> None:
    """Whether ``check`` takes it, but for files that only the hospital has. Raises DocumentError.

    Not the mappings: those of a pack are whole for every engine of databases, which the tests show.
    """
    load_settings(config, os.environ, require_files=False, secrets=False)


def _removed(made: Sequence[Path]) -> None:
    for path in made:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _ask_password(folder: Path, first: FirstConfig) -> None:
    """Put the password into its file, for the owner's eyes alone, when the person types it now. Never over a file."""
    kind, _, where = first.password.partition(":")
    target = folder / where
    if kind != "@file" or target.exists():
        return
    try:
        entered = getpass.getpass(f"密码，写入 {target}；留空以后再写 password, or nothing to write it later: ")
        if not entered:
            return
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(entered + "\n")
    except (EOFError, KeyboardInterrupt):
        return
    except OSError as error:
        say_error(f"无法写入 {target}", f"cannot write it: {error.strerror or type(error).__name__}")
        return
    say(f"密码已写入 {target}，仅本账号可读", "the password is in its file, for this account alone")


def _say_next(folder: Path, first: FirstConfig) -> None:
    if first.pack == NO_PACK:
        say("映射文件夹为空，从 his160 mapping discover 开始", "the mapping folder is empty: his160 mapping discover")
    elif first.engine not in WRITTEN_FOR.get(first.pack, frozenset()):
        fits = ", ".join(sorted(WRITTEN_FOR.get(first.pack, frozenset())))
        say(
            f"注意：适配包 {first.pack} 按 {fits} 的语法编写，用于 {first.engine} 须由 DBA 改写语句",
            f"note: the pack is written for {fits}; for {first.engine} the DBA has to adapt its statements",
        )
    say("下一步：", "next:")
    for line in _steps(folder, first):
        print(f"  {line}")


def _steps(folder: Path, first: FirstConfig) -> list[str]:
    kind, _, where = first.password.partition(":")
    steps = []
    if kind in ("@file", "@dpapi") and not (folder / where).exists():
        target = folder / where
        how = f"his160 secret protect {target}" if kind == "@dpapi" else f"密码写入 put the password into {target}"
        steps.append(f"{how}" + ("，仅服务账号可读 (chmod 600)" if kind == "@file" else ""))
    elif kind == "@env":
        steps.append(f"设置环境变量 set the variable {where}")
    elif kind == "@credential":
        steps.append(f"his160 service install --credential {where}=文件 FILE")
    if first.relay:
        steps.append(f"放入证书 put the certificates there: {folder / 'pki'} (agent.pem agent.key ca.pem)")
    return [*steps, f"his160 check --config {folder / _CONFIG}", f"his160 doctor --config {folder / _CONFIG}"]


def _ask(question: str, default: str) -> str:
    shown = f" [{default}]" if default else ""
    return input(f"{question}{shown}: ").strip() or default


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="his160 init",
        description="生成配置文件并复制适配包的映射；没有给出的参数逐项询问；从不覆盖已有文件 / "
        "write config.toml and copy the pack's mappings; asks for what is not given; never overwrites",
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="写到哪个文件夹 / folder (.)"
    )
    parser.add_argument("--code", metavar="CODE", help="机构代码 / site code")
    parser.add_argument("--name", metavar="NAME", help="医院名称 / name of the hospital")
    parser.add_argument("--engine", metavar="ENGINE", help=", ".join(sorted(ENGINES)))
    parser.add_argument("--pack", metavar="PACK", help=", ".join((*pack_names(), NO_PACK)))
    parser.add_argument("--database", metavar="NAME", help="库名；sqlite 为文件 / database; a file for sqlite")
    parser.add_argument("--host", metavar="HOST", help="数据库主机 / host")
    parser.add_argument("--port", type=int, default=0, metavar="PORT", help="端口，0 = 默认 / 0: the usual one")
    parser.add_argument("--user", metavar="USER", help="数据库账号 / login")
    parser.add_argument("--password", metavar="REF", help="密码引用 / reference: @file:… @env:… @credential:… @dpapi:…")
    parser.add_argument("--schema", default="", metavar="NAME", help="默认模式 / default schema")
    parser.add_argument("--relay", metavar="HOST:PORT,…", help="160 中继 / relays to dial")
    parser.add_argument("--no-input", action="store_true", help="不询问 / never ask")
    return parser
