"""What a shape cannot say of ``config.toml``: settings that need each other, addresses, files that must be there."""

from __future__ import annotations

import pathlib
import sys
import urllib.parse
import zoneinfo
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final

from agent.config_check_borders import check_borders, check_proxy
from agent.config_checking import Checking
from agent.config_place import PACK, mapping_folder, pack_names
from agent.config_secrets import check_secrets
from his_db.canary import can_try
from his_db.contract import mappable_names
from his_db.document.finding import listed, nearest
from his_db.document.located import Document, Path
from his_db.document.problem import Problems
from his_db.engine import EXTRA_DRIVERS
from his_db.quiet_hours import parse_spans
from sync.numbers import SEQUENCES

_LAST_SEQUENCE: Final = SEQUENCES[1]


def check_settings(
    document: Document, values: Mapping[str, Any], folder: pathlib.Path, problems: Problems, *, require_files: bool
) -> None:
    """Report what does not fit together. ``folder``: what relative paths are relative to."""
    check = Checking(document, values, folder, problems, require_files)
    check_secrets(document, values, problems)
    _zone(check)
    _state(check)
    _sources(check)
    _mapping(check)
    _mapping_is_apart(check)
    _guard(check)
    _insurance(check)
    check_borders(check)


def _zone(check: Checking) -> None:
    name = check.value("site", "timezone")
    if not isinstance(name, str):
        return
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        check.report(
            ("site", "timezone"),
            "H704",
            "not a known time zone",
            "不是有效的时区名称",
            'write a name of the IANA list, for example "Asia/Shanghai"',
            '请填写 IANA 时区名，例如 "Asia/Shanghai"',
        )


def _state(check: Checking) -> None:
    """A url of PostgreSQL, without a password in it."""
    url = check.value("state", "url")
    if not url or not isinstance(url, str):
        return
    try:
        parts = urllib.parse.urlsplit(url)
        complete = parts.scheme == "postgresql" and bool(parts.hostname) and len(parts.path) > 1 and parts.port != 0
    except ValueError:
        complete, parts = False, urllib.parse.urlsplit("")
    if not complete:
        check.report(
            ("state", "url"),
            "H708",
            "not the url of a PostgreSQL database",
            "不是有效的 PostgreSQL 地址",
            'url = "postgresql://user@host:5432/database"',
            'url = "postgresql://用户@主机:5432/数据库"',
        )
    elif parts.password:
        check.report(
            ("state", "url"),
            "H701",
            "a password may not stand in the configuration",
            "密码不能直接写在配置文件中",
            'take it out of the url and write password = "@env:NAME"',
            '从 url 中去掉密码，另写 password = "@env:变量名"',
        )


def _sources(check: Checking) -> None:
    sources = check.values.get("source")
    if not isinstance(sources, Mapping):
        return
    if not sources and isinstance(check.document.data.get("source"), dict) and not check.document.data["source"]:
        check.report(
            ("source",),
            "H705",
            "no HIS database is configured",
            "没有配置任何 HIS 数据库",
            "add a section [source.his]",
            "请增加一节 [source.his]",
        )
    for name, source in sources.items():
        engine = source.get("engine")
        if engine is not None and engine != "sqlite" and not source.get("host") and not _has_url(source):
            check.report(
                ("source", name),
                "H705",
                f"the engine {engine} needs a host",
                f"数据库类型 {engine} 需要填写 host",
                'add host = "…"',
                '请填写 host = "…"',
            )
        if check.require_files:
            _driver(check, name, engine)
        proxy = source.get("options", {}).get("proxy")
        if engine == "http" and proxy:
            beside = (
                'user and password by proxy_credentials = "@file:…"',
                '用户与密码写在 proxy_credentials = "@file:…"',
            )
            check_proxy(check, ("source", name, "options", "proxy"), proxy, beside)


def _driver(check: Checking, name: str, engine: object) -> None:
    module, package = EXTRA_DRIVERS.get(str(engine), ("", ""))
    if module and module not in sys.modules and find_spec(module) is None:
        check.report(
            ("source", name, "engine"),
            "H716",
            f"the driver {module} is not installed",
            f"没有安装数据库驱动 {module}",
            f'pip install "{package}"; without internet: pip install --no-index --find-links FOLDER {module}',
            f'pip install "{package}"；不能上网时：pip install --no-index --find-links 安装包文件夹 {module}',
        )


def _has_url(source: Mapping[str, Any]) -> bool:
    """Whether an interface over HTTP says where it is by its base URL."""
    is_url = bool(source.get("options", {}).get("base_url")) or "://" in str(source.get("database", ""))
    return source["engine"] == "http" and is_url


def _mapping(check: Checking) -> None:
    text = check.value("mapping", "path")
    if not isinstance(text, str) or not check.require_files:
        return
    if mapping_folder(text, check.folder).is_dir() or _has_last_good(check):
        return
    packs = listed([f"{PACK}{name}" for name in pack_names()])
    if text.startswith(PACK):
        message, message_zh = "there is no such built-in pack", "没有这个内置适配包"
    else:
        message, message_zh = "the folder of the mappings is not there", "映射文件夹不存在"
    check.report(
        ("mapping", "path"),
        "H707",
        message,
        message_zh,
        f"make the folder first, or use a built-in pack: {packs}",
        f"请先新建该文件夹，或使用内置适配包：{packs}",
    )


def _mapping_is_apart(check: Checking) -> None:
    """The copies that the agent keeps must not lie in the folder that it copies."""
    text, state = check.value("mapping", "path"), check.value("state", "path")
    if not isinstance(text, str) or not isinstance(state, str) or text.startswith(PACK):
        return
    own = (check.folder / state).resolve().parent / "mappings"
    if mapping_folder(text, check.folder).resolve() in (own, *own.parents):
        check.report(
            ("mapping", "path"),
            "H714",
            "the agent keeps its own copies of mappings in this folder, beside its state store",
            "该文件夹是代理存放映射副本的位置（与状态库同级），不能用作映射文件夹",
            'put the state store elsewhere: state.path = "state/agent.db"',
            '请把状态库放到别处：state.path = "state/agent.db"',
        )


def _has_last_good(check: Checking) -> bool:
    """A folder that is not there (a share that is not mounted yet) does not stop an agent that keeps a good copy."""
    state = check.value("state", "path")
    if check.value("mapping", "start_with_last_good") is not True or not isinstance(state, str):
        return False
    return (check.folder / state).parent.joinpath("mappings", "last-good").is_dir()


def _guard(check: Checking) -> None:
    """Hours that can be read; operations that exist; canaries that need no values."""
    for name, source in (check.value_of("source") or {}).items():
        try:
            parse_spans(source.get("quiet_hours", ""))
        except ValueError:
            check.report(
                ("source", name, "quiet_hours"),
                "H709",
                "not hours of the day",
                "时段格式不对",
                'write "08:00-09:00", several with commas: "08:00-09:00, 22:30-01:00"',
                '写成 "08:00-09:00"，多个时段用逗号分隔："08:00-09:00, 22:30-01:00"',
            )
    for section, key in (("operations", "off"), ("mapping", "canary")):
        for index, name in enumerate(check.value(section, key) or ()):
            _operation(check, (section, key, index), name)


def _operation(check: Checking, path: Path, name: str) -> None:
    if name not in mappable_names():
        near = nearest(name, mappable_names())
        check.report(
            path,
            "H710",
            "the contract has no such operation",
            "标准中没有这个操作",
            f"did you mean {near}?" if near else "see his160 check for the names",
            f"是否想写 {near}？" if near else "名称见 his160 check",
        )
    elif path[0] == "mapping" and not can_try(name):
        check.report(
            path,
            "H711",
            "this operation cannot be a canary: it writes, or needs values",
            "该操作不能用于试运行：它会写入，或需要参数值",
            "choose a read without required values, for example CatalogService.ListDepartments",
            "请选择无需参数的查询，例如 CatalogService.ListDepartments",
        )


def _insurance(check: Checking) -> None:
    """A share of msgid sequences: in order, and none of the gateway's own."""
    text = check.value("insurance", "msgid_sequences")
    first, _, last = text.partition("-") if isinstance(text, str) else ("", "", "")
    if first.isdigit() and last.isdigit() and not int(first) < int(last) <= _LAST_SEQUENCE:
        check.report(
            ("insurance", "msgid_sequences"),
            "H705",
            f"not a share of the sequences: first < last <= {_LAST_SEQUENCE} (9000 to 9999 are for reads and sign-ins)",
            f"序号区间不对：须首 < 尾 ≤ {_LAST_SEQUENCE}（9000–9999 留给查询和签到）",
            'two agents with state files of their own: "0-4499" and "4500-8999"',
            '两个代理各用各的状态库时："0-4499" 和 "4500-8999"',
        )
