"""Options that the mapping tools share: which mappings, which databases."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from agent.commands.options import add_config
from agent.config import load_settings
from agent.config_place import mapping_folder
from agent.workbench_site import workbench_site
from his_db.engine import SourceSettings
from his_db.source import settings_from_url
from his_db.workbench.site import Site

_ENV: Final = "@env:"
_ZONE: Final = "Asia/Shanghai"


def tool_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with ``--config``, or ``--source-url`` and ``--mapping``."""
    parser = argparse.ArgumentParser(prog=f"his160 mapping {name}", description=description)
    add_config(parser)
    group = parser.add_argument_group("不用配置文件时 / without a configuration file")
    group.add_argument(
        "--source-url",
        action="append",
        metavar="[NAME=]URL",
        help="数据库地址，如 postgresql://user@host/db；@env:VAR 取环境变量 / url of a source (his), or @env:VAR",
    )
    group.add_argument("--mapping", metavar="DIR", help="映射文件夹或 pack:名称 / mapping folder, or pack:NAME")
    group.add_argument("--timezone", default=_ZONE, metavar="ZONE", help=f"医院时区 / zone of the hospital ({_ZONE})")
    group.add_argument("--state", type=Path, metavar="DIR", help="状态目录 / state folder, where revisions are kept")
    return parser


def read_site(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Site:
    """The site of parsed options; wrong ones end the program with a usage error. Raises DocumentError."""
    if options.source_url is None:
        settings = load_settings(options.config, os.environ, require_files=False)
        folder = settings.mapping.folder if options.mapping is None else mapping_folder(options.mapping, Path.cwd())
        return workbench_site(settings, folder, options.state)
    if options.mapping is None:
        parser.error("--source-url 需要与 --mapping 一起使用 / --source-url needs --mapping")
    found: dict[str, SourceSettings] = {}
    for text in options.source_url:
        name, url = _named(text)
        if url.startswith(_ENV):
            url = os.environ.get(url.removeprefix(_ENV), "")
        try:
            found[name] = settings_from_url(name, url)
        except ValueError as error:
            parser.error(str(error))
    return Site(mapping_folder(options.mapping, Path.cwd()), found, options.timezone, options.state)


def needs_approval(options: argparse.Namespace) -> bool:
    """Whether the configuration wants a second person to approve. Raises DocumentError."""
    if options.source_url is not None:
        return False
    return load_settings(options.config, os.environ, require_files=False, secrets=False).mapping.approval


def _named(text: str) -> tuple[str, str]:
    name, equals, url = text.partition("=")
    return (name, url) if equals and name.isidentifier() else ("his", text)


def choose_source(parser: argparse.ArgumentParser, site: Site, name: str | None) -> SourceSettings:
    """The source named, or the only one."""
    if name is None and len(site.sources) == 1:
        return next(iter(site.sources.values()))
    if name not in site.sources:
        known = ", ".join(site.sources)
        parser.error(f"--source 应为其中之一 / --source must be one of: {known}")
    return site.sources[name or ""]
