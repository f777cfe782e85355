"""What a shape cannot say of ``config.toml``: settings that need each other, addresses, files that must be there."""

from __future__ import annotations

import pathlib
import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.config_place import PACK, is_loopback, mapping_folder, pack_names, split_address
from his_db.canary import can_try
from his_db.contract import mappable_names
from his_db.document.finding import listed, nearest
from his_db.document.located import Document, Path
from his_db.document.problem import Problems
from his_db.quiet_hours import parse_spans

_SERVER_FILES: Final = ("certificate", "key", "client_ca")
_RELAY_FILES: Final = ("certificate", "key", "ca")


@dataclass(frozen=True, slots=True)
class _Check:
    """One pass over values that the shape has accepted; a value that it refused is missing and not looked at."""

    document: Document
    values: Mapping[str, Any]
    folder: pathlib.Path
    problems: Problems
    require_files: bool

    def report(self, path: Path, code: str, message: str, message_zh: str, fix: str, fix_zh: str) -> None:
        self.problems.add(self.document.value_place(path), code, message, message_zh, fix, fix_zh)

    def value_of(self, section: str) -> Mapping[str, Any] | None:
        table = self.values.get(section)
        return table if isinstance(table, Mapping) else None

    def value(self, section: str, key: str) -> Any:
        table = self.values.get(section)
        return table.get(key) if isinstance(table, Mapping) else None


def check_settings(
    document: Document, values: Mapping[str, Any], folder: pathlib.Path, problems: Problems, *, require_files: bool
) -> None:
    """Report what does not fit together. ``folder``: what relative paths are relative to."""
    check = _Check(document, values, folder, problems, require_files)
    _zone(check)
    _sources(check)
    _mapping(check)
    _guard(check)
    _server(check)
    _relay(check)
    _borders(check)


def _zone(check: _Check) -> None:
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


def _sources(check: _Check) -> None:
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
        if engine is not None and engine != "sqlite" and not source.get("host"):
            check.report(
                ("source", name),
                "H705",
                f"the engine {engine} needs a host",
                f"数据库类型 {engine} 需要填写 host",
                'add host = "…"',
                '请填写 host = "…"',
            )


def _mapping(check: _Check) -> None:
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


def _has_last_good(check: _Check) -> bool:
    """A folder that is not there (a share that is not mounted yet) does not stop an agent that keeps a good copy."""
    state = check.value("state", "path")
    if check.value("mapping", "start_with_last_good") is not True or not isinstance(state, str):
        return False
    return (check.folder / state).parent.joinpath("mappings", "last-good").is_dir()


def _guard(check: _Check) -> None:
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


def _operation(check: _Check, path: Path, name: str) -> None:
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


def _server(check: _Check) -> None:
    listen, is_insecure = check.value("server", "listen"), check.value("server", "insecure")
    host = ""
    if isinstance(listen, str):
        host = _address(check, ("server", "listen"), listen)
    if not check.value("server", "enabled"):
        return
    if not is_insecure:
        _files(check, "server", _SERVER_FILES)
    elif host and not is_loopback(host):
        check.report(
            ("server", "insecure"),
            "H706",
            "without TLS the server may listen on the loopback only",
            "不加密时只允许监听本机回环地址",
            'listen = "127.0.0.1:50160", or give certificate, key and client_ca',
            '改为 listen = "127.0.0.1:50160"，或配置 certificate、key、client_ca',
        )


def _relay(check: _Check) -> None:
    addresses = check.value("relay", "addresses") or []
    for index, address in enumerate(addresses):
        _address(check, ("relay", "addresses", index), address)
    if not check.value("relay", "enabled"):
        return
    if not addresses and "addresses" in (check.values.get("relay") or {}):
        check.report(
            ("relay",),
            "H705",
            "the relay is enabled but has no address",
            "已启用中继连接，但没有填写地址",
            'addresses = ["relay.example.com:443"]',
            'addresses = ["relay.example.com:443"]',
        )
    _files(check, "relay", _RELAY_FILES)


def _borders(check: _Check) -> None:
    server, relay = check.value("server", "enabled"), check.value("relay", "enabled")
    sink = check.value("delivery", "sink")
    if server is False and relay is False:
        check.report(
            (),
            "H705",
            "neither [server] nor [relay] is enabled: nobody could call this agent",
            "[server] 与 [relay] 都未启用，无法接收任何调用",
            "enabled = true in one of them",
            "请至少启用其中之一：enabled = true",
        )
    needs = {"relay": ("relay", relay), "pull": ("server", server)}.get(str(sink))
    if needs is not None and needs[1] is False:
        check.report(
            ("delivery", "sink"),
            "H705",
            f'the sink "{sink}" needs [{needs[0]}] enabled',
            f'投递方式 "{sink}" 需要启用 [{needs[0]}]',
            f"[{needs[0]}] enabled = true, or another sink",
            f"请设置 [{needs[0]}] enabled = true，或改用其他投递方式",
        )


def _address(check: _Check, path: Path, text: str) -> str:
    try:
        return split_address(text)[0]
    except ValueError:
        check.report(path, "H708", "not an address host:port", "地址格式应为 主机:端口", "host:port", "主机:端口")
        return ""


def _files(check: _Check, section: str, keys: tuple[str, ...]) -> None:
    for key, text in _given(check, section, keys):
        if not text:
            check.report(
                (section,),
                "H705",
                f"[{section}] is enabled and needs {key}",
                f"已启用 [{section}]，必须填写 {key}",
                f'{key} = "…"',
                f'{key} = "…"',
            )
        elif check.require_files and not (check.folder / text).is_file():
            check.report(
                (section, key),
                "H707",
                "the file is not there",
                "文件不存在",
                "check the path; relative paths start at the folder of the configuration",
                "请检查路径；相对路径从配置文件所在文件夹算起",
            )


def _given(check: _Check, section: str, keys: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for key in keys:
        text = check.value(section, key)
        if isinstance(text, str):
            yield key, text
