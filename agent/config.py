"""``config.toml`` and the environment -> frozen settings, or every problem at once.

    settings = load_settings(Path("config.toml"), os.environ)        # raises DocumentError, all problems, exit code 78

Layers, the later wins: defaults of the shape, the file, ``HIS160__SECTION__KEY`` of the environment. Relative paths are
relative to the folder of the file. Passwords are references only (``agent.secret``); no repr shows one.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

from agent.config_check import check_settings
from agent.config_environment import overlay
from agent.config_place import PACK, mapping_folder, split_address
from agent.config_shape import SHAPE
from agent.secret import resolve
from his_db.document.located import load_document
from his_db.document.problem import DocumentError, Problems
from his_db.document.shape import check_shape
from his_db.engine import SourceSettings
from his_db.quiet_hours import parse_spans
from his_db.slow_calls import SlowCallSettings
from his_db.source import LaneSettings, LoadSettings

SinkName = Literal["relay", "file", "pull"]
LogFormat = Literal["json", "text"]
WatchMode = Literal["auto", "events", "polling", "off"]
MappingUse = Literal["folder", "published"]


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """Which hospital this is. ``instance`` names this process among the agents of the site."""

    code: str
    name: str
    timezone: str
    instance: str


@dataclass(frozen=True, slots=True)
class StateSettings:
    """The agent's own store: its file, how long finished work is kept, how often open commands are probed."""

    path: Path
    keep: timedelta
    sweep: timedelta


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One HIS database, the sizes of its lanes that differ from the default, and how it is spared."""

    settings: SourceSettings
    lanes: Mapping[str, LaneSettings]
    load: LoadSettings = field(default_factory=LoadSettings)


@dataclass(frozen=True, slots=True)
class MappingSettings:
    """Where the mapping set is, and how its changes come in. ``canary``: reads that try a new set out.

    ``use``: whether edits go live, or only what was published; ``approval``: by a second person. ``drift``: how often
    the HIS is compared with ``mappings.lock``; zero: never.
    ``watch`` is never ``auto`` for a built-in pack: that changes with the program.
    """

    folder: Path
    watch: WatchMode = "auto"
    quiet: timedelta = timedelta(milliseconds=500)
    canary: tuple[str, ...] = ()
    start_with_last_good: bool = True
    use: MappingUse = "folder"
    approval: bool = False
    drift: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The gRPC server for a relay that dials in, for operators and window programs. Files are None when insecure."""

    enabled: bool
    host: str
    port: int
    certificate: Path | None
    key: Path | None
    client_ca: Path | None
    insecure: bool


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """The relays to dial. ``authority``: name in their certificate when it is not the one dialled."""

    enabled: bool
    addresses: tuple[str, ...]
    certificate: Path | None
    key: Path | None
    ca: Path | None
    authority: str
    http_proxy: str
    redial_first: timedelta
    redial_most: timedelta
    dead_after: timedelta
    calls: int


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """Whether the HIS is watched for changes, and how often where a mapping does not say."""

    enabled: bool
    poll: timedelta


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Where events go: to the relay dialled, into files, or nowhere until a relay reads them (``pull``)."""

    sink: SinkName
    folder: Path


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Calls at once, the time of a call without a deadline, and how long a stop waits for calls under way."""

    calls: int
    time: timedelta
    grace: timedelta


@dataclass(frozen=True, slots=True)
class LogSettings:
    """``file`` None: standard error. ``max_bytes`` and ``backups``: rotation of the file."""

    level: str = "info"
    format: LogFormat = "text"
    file: Path | None = None
    max_bytes: int = 20 * 1024 * 1024
    backups: int = 10


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that config.toml says."""

    file: Path
    site: SiteSettings
    state: StateSettings
    sources: Mapping[str, SourceConfig] = field(repr=False)
    mapping: MappingSettings
    server: ServerSettings
    relay: RelaySettings
    watch: WatchSettings
    delivery: DeliverySettings
    limits: LimitSettings
    log: LogSettings
    off: tuple[str, ...] = ()
    """Operations that are switched off."""

    @property
    def engines(self) -> dict[str, str]:
        """Source name -> engine name, as the mapping check wants it."""
        return {name: source.settings.engine for name, source in self.sources.items()}


def load_settings(file: Path, environ: Mapping[str, str], *, require_files: bool = True) -> Settings:
    """Read, overlay, check and convert. ``require_files=False``: certificates, keys and mappings need not exist.

    Raises DocumentError with every problem of the file, the environment and the secrets.
    """
    problems = Problems()
    document = overlay(load_document(file), environ, problems)
    values = check_shape(document, SHAPE, problems)
    folder = file.absolute().parent
    check_settings(document, values, folder, problems, require_files=require_files)
    passwords = _passwords(document, values, folder, environ, problems)
    if problems:
        raise DocumentError(problems.errors)
    return _settings(file, folder, values, passwords)


def _passwords(
    document: Any, values: Mapping[str, Any], folder: Path, environ: Mapping[str, str], problems: Problems
) -> dict[str, str]:
    """Resolved password of each source that has one."""
    found: dict[str, str] = {}
    for name, source in values.get("source", {}).items():
        if source.get("password"):
            place = document.value_place(("source", name, "password"))
            found[name] = resolve(source["password"], folder, environ, place, problems)
    return found


def _settings(file: Path, folder: Path, values: Mapping[str, Any], passwords: Mapping[str, str]) -> Settings:
    site, state, limits = values["site"], values["state"], values["limits"]
    return Settings(
        file=file.absolute(),
        site=SiteSettings(site["code"], site["name"], site["timezone"], site["instance"] or socket.gethostname()),
        state=StateSettings(folder / state["path"], state["keep"], state["sweep"]),
        sources={
            name: _source(name, source, folder, site["timezone"], passwords.get(name, ""))
            for name, source in values["source"].items()
        },
        mapping=_mapping(values["mapping"], folder),
        server=_server(values["server"], folder),
        relay=_relay(values["relay"], folder),
        watch=WatchSettings(values["watch"]["enabled"], values["watch"]["poll"]),
        delivery=DeliverySettings(values["delivery"]["sink"], folder / values["delivery"]["folder"]),
        limits=LimitSettings(limits["calls"], limits["time"], limits["grace"]),
        log=_log(values["log"], folder),
        off=tuple(values["operations"]["off"]),
    )


def _source(name: str, values: Mapping[str, Any], folder: Path, timezone: str, password: str) -> SourceConfig:
    database = values["database"]
    if values["engine"] == "sqlite" and database != ":memory:":
        database = str(folder / database)
    settings = SourceSettings(
        name=name,
        engine=values["engine"],
        database=database,
        host=values["host"],
        port=values["port"],
        user=values["user"],
        password=password,
        schema=values["schema"],
        timezone=timezone,
        connect_timeout=values["connect_timeout"],
        statement_timeout=values["statement_timeout"],
        lock_timeout=values["lock_timeout"],
        options=values["options"],
    )
    lanes = {
        lane: LaneSettings(size["workers"], size["queue_limit"], size.get("statement_timeout"))
        for lane, size in values["lanes"].items()
    }
    slow = SlowCallSettings(values["slow_after"], values["slow_percent"])
    return SourceConfig(settings, lanes, LoadSettings(slow, parse_spans(values["quiet_hours"])))


def _mapping(values: Mapping[str, Any], folder: Path) -> MappingSettings:
    watch = values["watch"]
    if watch == "auto" and values["path"].startswith(PACK):
        watch = "off"
    return MappingSettings(
        folder=mapping_folder(values["path"], folder),
        watch=cast(WatchMode, watch),
        quiet=values["quiet"],
        canary=tuple(values["canary"]),
        start_with_last_good=values["start_with_last_good"],
        use=cast(MappingUse, values["use"]),
        approval=values["approval"],
        drift=values["drift"],
    )


def _server(values: Mapping[str, Any], folder: Path) -> ServerSettings:
    host, port = split_address(values["listen"])
    return ServerSettings(
        enabled=values["enabled"],
        host=host,
        port=port,
        certificate=_path(folder, values["certificate"]),
        key=_path(folder, values["key"]),
        client_ca=_path(folder, values["client_ca"]),
        insecure=values["insecure"],
    )


def _relay(values: Mapping[str, Any], folder: Path) -> RelaySettings:
    return RelaySettings(
        enabled=values["enabled"],
        addresses=tuple(values["addresses"]),
        certificate=_path(folder, values["certificate"]),
        key=_path(folder, values["key"]),
        ca=_path(folder, values["ca"]),
        authority=values["authority"],
        http_proxy=values["http_proxy"],
        redial_first=values["redial_first"],
        redial_most=values["redial_most"],
        dead_after=values["dead_after"],
        calls=values["calls"],
    )


def _log(values: Mapping[str, Any], folder: Path) -> LogSettings:
    return LogSettings(
        level=values["level"],
        format=cast(LogFormat, values["format"]),
        file=_path(folder, values["file"]),
        max_bytes=values["max_megabytes"] * 1024 * 1024,
        backups=values["backups"],
    )


def _path(folder: Path, text: str) -> Path | None:
    return folder / text if text else None
