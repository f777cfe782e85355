"""What a shape cannot say of ``config.toml``: settings that need each other, addresses, files that must be there."""

from __future__ import annotations

import pathlib
import sys
import urllib.parse
import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

from agent.config_place import PACK, is_loopback, mapping_folder, pack_names, split_address
from agent.config_secrets import check_secrets
from his_db.canary import can_try
from his_db.contract import mappable_names
from his_db.document.finding import listed, nearest
from his_db.document.located import Document, Path
from his_db.document.problem import Problems
from his_db.engine import EXTRA_DRIVERS
from his_db.proxy import parse_proxy
from his_db.quiet_hours import parse_spans
from sync.numbers import SEQUENCES

_SERVER_FILES: Final = ("certificate", "key", "client_ca")
_LAST_SEQUENCE: Final = SEQUENCES[1]
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
    check_secrets(document, values, problems)
    _zone(check)
    _state(check)
    _sources(check)
    _mapping(check)
    _mapping_is_apart(check)
    _guard(check)
    _insurance(check)
    _server(check)
    _desk(check)
    _metrics(check)
    _payment_notify(check)
    _relay(check)
    _borders(check)
    _nats(check)
    _drops(check)


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


def _state(check: _Check) -> None:
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
            _proxy(check, ("source", name, "options", "proxy"), proxy, beside)


def _driver(check: _Check, name: str, engine: object) -> None:
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


def _proxy(check: _Check, path: Path, text: str, beside: tuple[str, str]) -> None:
    """A proxy that can be read. ``beside``: where its user and password stand."""
    try:
        parse_proxy(text)
    except ValueError:
        check.report(
            path,
            "H708",
            "a proxy is written http://host:port or socks5://host:port",
            "代理格式应为 http://主机:端口 或 socks5://主机:端口",
            f'proxy = "socks5://10.1.1.1:1080", {beside[0]}',
            f'proxy = "socks5://10.1.1.1:1080"，{beside[1]}',
        )


def _has_url(source: Mapping[str, Any]) -> bool:
    """Whether an interface over HTTP says where it is by its base URL."""
    is_url = bool(source.get("options", {}).get("base_url")) or "://" in str(source.get("database", ""))
    return source["engine"] == "http" and is_url


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


def _mapping_is_apart(check: _Check) -> None:
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


def _insurance(check: _Check) -> None:
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


def _metrics(check: _Check) -> None:
    listen = check.value("metrics", "listen")
    if isinstance(listen, str):
        _address(check, ("metrics", "listen"), listen)


def _payment_notify(check: _Check) -> None:
    listen = check.value("payment_notify", "listen")
    if isinstance(listen, str):
        _address(check, ("payment_notify", "listen"), listen)
    if check.value("payment_notify", "enabled") and not check.value("payment_notify", "insecure"):
        _files(check, "payment_notify", ("certificate", "key"))


def _desk(check: _Check) -> None:
    listen = check.value("desk", "listen")
    if isinstance(listen, str):
        _address(check, ("desk", "listen"), listen)
    if not check.value("desk", "enabled"):
        return
    if not check.value("desk", "insecure"):
        _files(check, "desk", ("certificate", "key"))
    if check.value("desk", "keys"):
        _files(check, "desk", ("keys",))
    elif check.value("desk", "insecure") or not check.value("desk", "client_ca"):
        check.report(
            ("desk",),
            "H705",
            "nothing says which window calls: neither API keys nor client certificates",
            "无法识别窗口程序：既没有接口密钥，也没有客户端证书",
            'keys = "desk-keys.toml" (make one with: his160 desk key NAME), or client_ca',
            'keys = "desk-keys.toml"（用 his160 desk key 名称 生成），或配置 client_ca',
        )
    elif not check.value("desk", "insecure"):
        _files(check, "desk", ("client_ca",))


def _relay(check: _Check) -> None:
    addresses = check.value("relay", "addresses") or []
    for index, address in enumerate(addresses):
        _address(check, ("relay", "addresses", index), address)
    proxy = check.value("relay", "proxy")
    if proxy:
        beside = ("with proxy_user and proxy_password beside it", "用户与密码写在 proxy_user、proxy_password")
        _proxy(check, ("relay", "proxy"), proxy, beside)
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


def _nats(check: _Check) -> None:
    if check.value("delivery", "sink") != "nats":
        return
    nats = check.value("delivery", "nats")
    if isinstance(nats, Mapping) and not nats.get("servers"):
        check.report(
            ("delivery",),
            "H705",
            'the sink "nats" needs [delivery.nats] servers',
            '投递方式 "nats" 需要在 [delivery.nats] 填写 servers',
            'servers = ["nats://10.1.2.4:4222"]',
            'servers = ["nats://10.1.2.4:4222"]',
        )
    if find_spec("nats") is None:
        check.report(
            ("delivery", "sink"),
            "H705",
            "the NATS client is not installed",
            "没有安装 NATS 客户端",
            'pip install "his160[nats]", or another sink',
            '请安装 "his160[nats]"，或改用其他投递方式',
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
                f"the file is not there: {check.folder / text}",
                f"文件不存在：{check.folder / text}",
                "check the path; relative paths start at the folder of the configuration",
                "请检查路径；相对路径从配置文件所在文件夹算起",
            )


def _given(check: _Check, section: str, keys: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for key in keys:
        text = check.value(section, key)
        if isinstance(text, str):
            yield key, text


def _drops(check: _Check) -> None:
    """Folders for dropped files: names of their own, folders of their own, and what reads them is installed."""
    drops = check.values.get("drop")
    if not isinstance(drops, Mapping) or not drops:
        return
    folders: dict[pathlib.Path, str] = {}
    for name, drop in drops.items():
        if name in (check.values.get("source") or {}):
            check.report(
                ("drop", name),
                "H705",
                f"[source.{name}] has the same name, and a watch names either as its source",
                f"与 [source.{name}] 同名，而监视用同一个 source 指定二者",
                "give it another name",
                "请换一个名称",
            )
        place = (check.folder / drop["folder"]).absolute() if drop.get("folder") else None
        other = folders.setdefault(place, name) if place is not None else name
        if other != name:
            check.report(
                ("drop", name, "folder"),
                "H705",
                f"[drop.{other}] takes the files of the same folder",
                f"[drop.{other}] 使用同一个目录",
                "a folder of its own for each",
                "请为每个 drop 使用单独的目录",
            )
    missing = [module for module in ("dbf", "defusedxml", "ijson") if find_spec(module) is None]
    if missing:
        check.report(
            ("drop",),
            "H705",
            f"the libraries that read dropped files are not installed: {', '.join(missing)}",
            f"没有安装读取文件所需的库：{', '.join(missing)}",
            'pip install "his160[drop]"',
            '请安装 "his160[drop]"',
        )
