"""What a shape cannot say of the borders in ``config.toml``: addresses, certificates, folders that drop files."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Final

from agent.config_checking import Checking
from agent.config_place import is_loopback, split_address
from his_db.document.located import Path
from his_db.proxy import parse_proxy

_SERVER_FILES: Final = ("certificate", "key", "client_ca")
_RELAY_FILES: Final = ("certificate", "key", "ca")


def check_borders(check: Checking) -> None:
    """Servers, links, folders: where something comes in or goes out."""
    _server(check)
    _desk(check)
    _metrics(check)
    _payment_notify(check)
    _relay(check)
    _borders(check)
    _nats(check)
    _drops(check)


def check_proxy(check: Checking, path: Path, text: str, beside: tuple[str, str]) -> None:
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


def _server(check: Checking) -> None:
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


def _metrics(check: Checking) -> None:
    listen = check.value("metrics", "listen")
    if isinstance(listen, str):
        _address(check, ("metrics", "listen"), listen)


def _payment_notify(check: Checking) -> None:
    listen = check.value("payment_notify", "listen")
    if isinstance(listen, str):
        _address(check, ("payment_notify", "listen"), listen)
    if check.value("payment_notify", "enabled") and not check.value("payment_notify", "insecure"):
        _files(check, "payment_notify", ("certificate", "key"))


def _desk(check: Checking) -> None:
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


def _relay(check: Checking) -> None:
    addresses = check.value("relay", "addresses") or []
    for index, address in enumerate(addresses):
        _address(check, ("relay", "addresses", index), address)
    proxy = check.value("relay", "proxy")
    if proxy:
        beside = ("with proxy_user and proxy_password beside it", "用户与密码写在 proxy_user、proxy_password")
        check_proxy(check, ("relay", "proxy"), proxy, beside)
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


def _borders(check: Checking) -> None:
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


def _nats(check: Checking) -> None:
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


def _address(check: Checking, path: Path, text: str) -> str:
    try:
        return split_address(text)[0]
    except ValueError:
        check.report(path, "H708", "not an address host:port", "地址格式应为 主机:端口", "host:port", "主机:端口")
        return ""


def _files(check: Checking, section: str, keys: tuple[str, ...]) -> None:
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


def _given(check: Checking, section: str, keys: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for key in keys:
        text = check.value(section, key)
        if isinstance(text, str):
            yield key, text


def _drops(check: Checking) -> None:
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
