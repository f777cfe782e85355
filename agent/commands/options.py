"""Options that several subcommands share: the configuration, and how to reach an agent or a sandbox."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from agent.config import load_settings
from agent.config_place import is_loopback, split_address
from his_db.document import encoding

DEFAULT_CONFIG: Final = Path("config.toml")
_FILE: Final = "@"
_MESSAGE_BYTES: Final = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Where to call and with what certificate; ``certs`` None: without TLS."""

    address: str
    certs: Path | None
    identity: str
    authority: str

    def channel(self) -> grpc.Channel:
        """An open channel; the caller closes it. Raises OSError for an unreadable certificate."""
        options: list[tuple[str, Any]] = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
        ]
        if self.certs is None:
            return grpc.insecure_channel(self.address, options)
        if self.authority:
            options.append(("grpc.ssl_target_name_override", self.authority))
        credentials = grpc.ssl_channel_credentials(
            (self.certs / "ca.pem").read_bytes(),
            (self.certs / f"{self.identity}.key").read_bytes(),
            (self.certs / f"{self.identity}.pem").read_bytes(),
        )
        return grpc.secure_channel(self.address, credentials, options)


def add_config(parser: argparse.ArgumentParser) -> None:
    """``--config FILE``."""
    help_text = "配置文件 / configuration (config.toml)"
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=help_text)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Options that say where to call."""
    group = parser.add_argument_group("对端 / target")
    group.add_argument("--target", metavar="HOST:PORT", help="代理或联调中继的地址 / address of an agent or a sandbox")
    group.add_argument("--config", type=Path, metavar="FILE", help="从配置文件取地址 / take the address of [server]")
    group.add_argument("--certs", type=Path, metavar="DIR", help="证书目录 / folder with ca.pem, NAME.pem, NAME.key")
    group.add_argument(
        "--as", dest="identity", default="relay", metavar="NAME", help="证书名 / NAME in --certs (relay)"
    )
    group.add_argument("--authority", default="", metavar="HOST", help="证书中的主机名 / host name in the certificate")
    group.add_argument("--insecure", action="store_true", help="不加密，仅限本机 / without TLS, loopback only")


def read_target(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Target:
    """The target of parsed options; wrong ones end the program with a usage error. Raises DocumentError."""
    address, insecure = options.target, options.insecure
    if options.config is not None and address is None:
        server = load_settings(options.config, os.environ, require_files=False, secrets=False).server
        if not server.enabled:
            parser.error("[server] 未启用，请用 --target / [server] is not enabled: give --target")
        host = "127.0.0.1" if server.host in ("0.0.0.0", "::") else server.host  # noqa: S104 - compared, not bound
        address, insecure = f"[{host}]:{server.port}" if ":" in host else f"{host}:{server.port}", server.insecure
    if address is None:
        parser.error("需要 --target 或 --config / --target or --config is required")
    try:
        host, _ = split_address(address)
    except ValueError:
        parser.error("--target 格式为 主机:端口 / --target must be HOST:PORT")
    if insecure and not is_loopback(host):
        parser.error("--insecure 仅限本机 / --insecure is for the loopback only")
    if not insecure and options.certs is None:
        parser.error("需要 --certs 或 --insecure / --certs or --insecure is required")
    return Target(address, None if insecure else options.certs, options.identity, options.authority)


def text_or_file(parser: argparse.ArgumentParser, given: str) -> str:
    """The text as given, what FILE holds for ``@FILE``, the standard input for ``-``; a file that is not UTF-8 ends the
    program with a usage error. A file, because no shell leaves quotes and Chinese of a long JSON alone."""
    if given == "-":
        return sys.stdin.read()
    if not given.startswith(_FILE):
        return given
    name = given.removeprefix(_FILE)
    try:
        raw = Path(name).read_bytes()
    except OSError as error:
        parser.error(f"无法读取文件 / cannot read the file: {name}: {error.strerror or type(error).__name__}")
    text, problem = encoding.read(raw, name)
    if text is None or problem is not None:
        parser.error("\n" + problem.render() if problem is not None else name)
    return text
