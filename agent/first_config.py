"""The first config.toml of a site, for ``his160 init``: short, commented, and what the check accepts.

It holds what a hospital has to decide; everything else keeps its default and is described in the reference
``config.toml`` of the product. Texts are written as TOML strings, so no value can become a line of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from agent.config_place import packs_folder

NO_PACK: Final = "none"
"""Instead of a pack: an empty mapping folder, for an HIS that no pack is made for."""

# For which database the statements of a pack are written (its README); others need changes by the DBA.
WRITTEN_FOR: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "zebone": frozenset({"sqlite"}),
        "winning": frozenset({"postgresql"}),
        "winning_mssql": frozenset({"mssql"}),
        "bsoft": frozenset({"mysql"}),
        "neusoft": frozenset({"oracle", "dm", "postgresql"}),
    }
)
_SERVER: Final = "host, port 0 = 默认端口 / the usual port"
# What `database` means, and the options that hospitals need, by engine. docs/engines.md has all of them.
_DATABASE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sqlite": "数据库文件，相对本文件夹 / the file, relative to this folder",
        "postgresql": "库名 / name of the database",
        "mysql": "库名 / name of the database",
        "mssql": "库名 / name of the database",
        "oracle": "服务名 service name；SID 见 docs/engines.md / a SID: docs/engines.md",
        "dm": "模式名 / schema",
        "http": "接口路径，例如 /his / path of the interface",
    }
)
_OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "postgresql": 'options = { sslmode = "verify-full", sslrootcert = "/etc/his160/pki/his-ca.pem" }',
        "mysql": 'options = { ssl_ca = "/etc/his160/pki/his-ca.pem", ssl_verify_identity = "on" }',
        "http": 'options = { tls = "on", ca_file = "/etc/his160/pki/his-ca.pem" }',
    }
)


@dataclass(frozen=True, slots=True)
class FirstConfig:
    """What the person answered. ``password`` is a reference (``@file:…``), never a password; empty: none."""

    code: str
    engine: str
    pack: str
    database: str
    name: str = ""
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = ""
    schema: str = ""
    relay: tuple[str, ...] = ()


def source_of_pack(pack: str, engine: str) -> Path | None:
    """The mappings to copy: those for the engine where the pack has several; None without a pack."""
    if pack == NO_PACK:
        return None
    own = packs_folder() / pack / f"mappings_{engine}"
    return own if own.is_dir() else packs_folder() / pack / "mappings"


def page_of_pack(pack: str) -> Path | None:
    """The page for the DBA in Chinese; None without a pack."""
    return None if pack == NO_PACK else packs_folder() / pack / "README.zh-CN.md"


def config_text(first: FirstConfig) -> str:
    """The file."""
    return "\n".join([_head(first), _source(first), _mapping(first), _borders(first), _rest(first)])


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _head(first: FirstConfig) -> str:
    return f"""\
# his160 配置，由 his160 init 生成 / made by his160 init.
# 没有列出的设置都有默认值，逐项说明见随程序提供的 config.toml 样例。
# What is not listed has a default; the commented reference config.toml of the product shows every setting.
#
#   检查 / check      his160 check  --config config.toml
#   体检 / examine    his160 doctor --config config.toml
#   运行 / run        his160 run    --config config.toml
# 相对路径从本文件所在文件夹算起 / relative paths start at the folder of this file.

[site]
code = {_text(first.code)}    # 机构代码，与代理证书中的一致 / site code, the one of the agent's certificate
name = {_text(first.name)}    # 医院名称，仅供显示 / for people only
timezone = "Asia/Shanghai"

# 命令账本与待发事件；须在本机磁盘，单独的文件夹 / ledger and outbox: a local disk, a folder of its own
[state]
path = "state/his160.db"
"""


def _source(first: FirstConfig) -> str:
    lines = [
        "# HIS 数据库 / the HIS's database. 账号只授予映射用到的权限 / least rights: his160 mapping grants",
        "[source.his]",
        f"engine = {_text(first.engine)}",
        f"database = {_text(first.database)}    # {_DATABASE[first.engine]}",
    ]
    if first.engine != "sqlite":
        lines += [f"host = {_text(first.host)}", f"port = {first.port}    # 0 = 默认端口 / the usual port"]
    if first.engine != "sqlite" and (first.user or first.password):
        lines += [
            f"user = {_text(first.user)}",
            "# 密码只写引用，不写密码本身 / a reference, never the password itself:",
            '#   "@file:路径"  "@env:变量名"  "@credential:名称" (systemd)  "@dpapi:路径" (his160 secret protect)',
            f"password = {_text(first.password)}",
        ]
    if first.schema:
        lines.append(f"schema = {_text(first.schema)}")
    lines += [
        'connect_timeout = "5s"',
        'statement_timeout = "10s"    # 单条语句最长时间 / longest time of a statement',
        'lock_timeout = "3s"          # 等锁最长时间 / longest wait for a lock',
        'quiet_hours = ""             # 不跑报表的时段 / no reports then: "08:00-09:00, 22:30-01:00"',
    ]
    if first.engine in _OPTIONS:
        lines.append(f"# 加密连接示例 / an encrypted connection: {_OPTIONS[first.engine]}")
    return "\n".join(lines) + "\n"


def _mapping(first: FirstConfig) -> str:
    origin = f"由适配包 {first.pack} 复制而来 / a copy of the pack {first.pack}"
    if first.pack == NO_PACK:
        origin = "尚为空，从 his160 mapping discover 开始 / empty yet, begin with his160 mapping discover"
    return f"""\
# 接口与 HIS 表、存储过程的对应：{origin}
[mapping]
path = "mappings"
# folder = 修改并通过检查后即生效；published = 只运行 his160 mapping publish 发布的版本（正式环境建议）
# folder: edits go live once they pass; published: only what his160 mapping publish made live (for production)
use = "folder"
"""


def _borders(first: FirstConfig) -> str:
    if first.relay:
        return f"""\
# 主动连接 160 的中继，医院不需要开放入站端口 / dials out to 160's relay: no inbound port of the hospital
[relay]
enabled = true
addresses = [{", ".join(map(_text, first.relay))}]
certificate = "pki/agent.pem"   # 160 签发，内含 his160://site/机构代码 / issued by 160, names this site
key = "pki/agent.key"
ca = "pki/ca.pem"               # 中继证书的 CA / authority of the relay's certificate
authority = ""                  # 中继证书中的名称与地址不同时填写 / name in its certificate when it differs
proxy = ""                      # "http://10.1.1.1:3128" 或 / or "socks5://10.1.1.1:1080"

[delivery]
sink = "relay"

# 供本机运维命令使用（his160 status 等）：需要时启用 / for his160 status and others on this machine
[server]
enabled = false
listen = "127.0.0.1:50160"
certificate = "pki/agent.pem"
key = "pki/agent.key"
client_ca = "pki/ca.pem"
"""
    return """\
# 尚未填写中继：先在本机试用。连接 160 时启用 [relay]（addresses、certificate、key、ca），并把 sink 改为 "relay"。
# No relay yet: to try it on this machine. For 160 enable [relay] (addresses, certificate, key, ca), and sink = "relay".
[server]
enabled = true
listen = "127.0.0.1:50160"
insecure = true                 # 不加密，只允许本机 / without TLS, loopback only

[delivery]
sink = "file"                   # 变化事件写成文件 / events into files
folder = "events"
"""


def _rest(first: FirstConfig) -> str:
    return """\
[watch]
enabled = true                  # 监视窗口的取消、退号、停诊 / watch what happens at the windows

# 监控 / monitoring: GET /metrics (Prometheus), GET /healthz
[metrics]
enabled = false
listen = "127.0.0.1:50162"

[log]
level = "info"
file = "logs/his160.log"        # 空 = 标准错误 / empty: standard error
"""
