"""``config.toml`` and the environment -> frozen settings, or every problem at once.

    settings = load_settings(Path("config.toml"), os.environ)        # raises DocumentError, all problems, exit code 78

Layers, the later wins: defaults of the shape, the file, ``HIS160__SECTION__KEY`` of the environment. Relative paths are
relative to the folder of the file. Passwords are references only (``agent.secret``); no repr shows one.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, cast

from agent.config_check import check_settings
from agent.config_environment import overlay
from agent.config_money import InsuranceSettings, PaymentSettings, insurance_settings, payment_settings
from agent.config_place import PACK, mapping_folder, split_address
from agent.config_report import NO_REPORTS, ReportSettings, report_settings
from agent.config_shape import SHAPE
from agent.http_place import HttpPlace
from agent.secret import resolve
from his_db.document.located import load_document
from his_db.document.problem import DocumentError, Problem, Problems
from his_db.document.shape import check_shape
from his_db.engine import SourceSettings
from his_db.mapping.model import FILE
from his_db.proxy import ProxySettings, parse_proxy
from his_db.quiet_hours import parse_spans
from his_db.slow_calls import SlowCallSettings
from his_db.source import LaneSettings, LoadSettings, default_lanes
from sync.audit import ARCHIVE_KEEP
from sync.drop_settings import DropSettings
from sync.nats_settings import NatsSettings
from sync.notice import Trust

SinkName = Literal["relay", "file", "nats", "pull"]
LogFormat = Literal["json", "text"]
WatchMode = Literal["auto", "events", "polling", "off"]
MappingUse = Literal["folder", "published"]
Section = tuple[str, ...]
_STATE: Section = ("state",)
_NATS: Section = ("delivery", "nats")
_PROXY: Section = ("relay",)
# Problems that leave settings whole: a secret, a file or a driver is missing.
_USABLE: Final = frozenset({"H701", "H702", "H703", "H707", "H716"})


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """Which hospital this is. ``instance`` names this process among the agents of the site."""

    code: str
    name: str
    timezone: str
    instance: str


@dataclass(frozen=True, slots=True)
class StateSettings:
    """The agent's own store: its file, how long finished work is kept, how often open commands are probed.

    ``audit_keep``: how long the audit is kept as rows, 180 days at least; ``archive_keep``: and packed, three years at
    least. ``url``: the store is in that PostgreSQL, for
    several agents; other files of the agent stand beside ``path`` all the same. ``lease``: after how long of silence
    another agent takes over from the one that watches and delivers.
    """

    path: Path
    keep: timedelta
    sweep: timedelta
    audit_keep: timedelta = timedelta(days=400)
    archive_keep: timedelta = ARCHIVE_KEEP
    url: str = ""
    password: str = field(default="", repr=False)
    lease: timedelta = timedelta(seconds=12)


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
class DeskSettings:
    """The HTTP/JSON listener for window programs, and how all notices of windows are taken.

    ``place`` None: no listener; windows may still call the gRPC server. ``keys``: file of the windows' API keys.
    ``overdue``: after this a notice that the HIS does not show is a person's business.
    """

    place: HttpPlace | None
    keys: Path | None
    patience: timedelta
    trust: Trust
    overdue: timedelta


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """The relays to dial. ``authority``: name in their certificate when it is not the one dialled."""

    enabled: bool
    addresses: tuple[str, ...]
    certificate: Path | None
    key: Path | None
    ca: Path | None
    authority: str
    proxy: ProxySettings | None = field(repr=False)
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
    """Where events go: to the relay dialled, into files, to NATS, or nowhere until a relay reads them (``pull``)."""

    sink: SinkName
    folder: Path
    nats: NatsSettings


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
    desk: DeskSettings
    metrics: HttpPlace | None
    """Where ``/metrics`` and ``/healthz`` are; None: nowhere."""
    payment_notify: HttpPlace | None
    """Where payment houses and 医保 call back; None: nowhere."""
    relay: RelaySettings
    watch: WatchSettings
    delivery: DeliverySettings
    limits: LimitSettings
    log: LogSettings
    insurance: InsuranceSettings = field(default_factory=InsuranceSettings)
    payment: PaymentSettings = field(default_factory=PaymentSettings)
    drops: Mapping[str, DropSettings] = field(default_factory=dict)
    """Folders for dropped files, by the name that a watch has as its source."""
    off: tuple[str, ...] = ()
    """Operations that are switched off."""
    report: ReportSettings = NO_REPORTS

    @property
    def engines(self) -> dict[str, str]:
        """Source name -> engine name, as the mapping check wants it."""
        engines = {name: source.settings.engine for name, source in self.sources.items()}
        return {**dict.fromkeys(self.drops, FILE), **engines}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a configuration is. ``settings`` None: too wrong to be used for anything; ``without_password``: sections
    whose reference leads to no password."""

    settings: Settings | None
    problems: tuple[Problem, ...]
    without_password: frozenset[Section] = frozenset()


def load_settings(
    file: Path, environ: Mapping[str, str], *, require_files: bool = True, secrets: bool = True
) -> Settings:
    """Read, overlay, check and convert. ``require_files=False``: certificates, keys and mappings need not exist.

    ``secrets=False``: passwords stay empty, for commands that never speak to the HIS; beside a running service a
    person's shell has neither its variables nor its credentials.

    Raises DocumentError with every problem of the file, the environment and the secrets.
    """
    reading = read_settings(file, environ, require_files=require_files, secrets=secrets)
    if reading.settings is None or reading.problems:
        raise DocumentError(reading.problems)
    return reading.settings


def read_settings(
    file: Path, environ: Mapping[str, str], *, require_files: bool = True, secrets: bool = True
) -> Reading:
    """As ``load_settings``, and what can be used all the same: for a look at a site that is not whole (``doctor``).

    Raises DocumentError for a file that cannot be read at all.
    """
    problems = Problems()
    document = overlay(load_document(file), environ, problems)
    values = check_shape(document, SHAPE, problems)
    folder = file.absolute().parent
    check_settings(document, values, folder, problems, require_files=require_files)
    # Of a password in a host, a url or an option: settings that hold it would show it in messages.
    is_exposed = any(problem.code == "H701" for problem in problems)
    passwords = _passwords(document, values, folder, environ, problems, secrets=secrets)
    found = problems.errors
    if is_exposed or any(problem.code not in _USABLE for problem in found):
        return Reading(None, found)
    without = frozenset(section for section, password in passwords.items() if not password)
    return Reading(_settings(file, folder, values, passwords), found, without)


def _passwords(
    document: Any,
    values: Mapping[str, Any],
    folder: Path,
    environ: Mapping[str, str],
    problems: Problems,
    *,
    secrets: bool,
) -> dict[Section, str]:
    """Resolved password of each section that has one. Without ``secrets`` only what is no reference is reported."""
    found: dict[Section, str] = {}
    references: dict[Section, str | None] = {
        ("source", name): source.get("password") for name, source in values.get("source", {}).items()
    }
    state = values.get("state", {})
    reference = state.get("password")
    if reference and (state.get("url") or not reference.startswith("@")):
        # Tools of people need it as the agent does; where it cannot be had, the database refuses them and says why.
        place = document.value_place((*_STATE, "password"))
        is_literal = not reference.startswith("@")
        found[_STATE] = resolve(reference, folder, environ, place, problems if secrets or is_literal else Problems())
    references[_NATS] = values.get("delivery", {}).get("nats", {}).get("password")
    references[_PROXY] = values.get("relay", {}).get("proxy_password")
    for section, reference in references.items():
        if reference and (secrets or not reference.startswith("@")):
            place = document.value_place((*section, "proxy_password" if section == _PROXY else "password"))
            found[section] = resolve(reference, folder, environ, place, problems)
    return found


def _settings(file: Path, folder: Path, values: Mapping[str, Any], passwords: Mapping[Section, str]) -> Settings:
    site, state, limits = values["site"], values["state"], values["limits"]
    return Settings(
        file=file.absolute(),
        site=SiteSettings(site["code"], site["name"], site["timezone"], site["instance"] or socket.gethostname()),
        state=StateSettings(
            path=folder / state["path"],
            keep=state["keep"],
            sweep=state["sweep"],
            audit_keep=state["audit_keep"],
            archive_keep=state["archive_keep"],
            url=state["url"],
            password=passwords.get(_STATE, ""),
            lease=state["lease"],
        ),
        sources={
            name: _source(name, source, folder, site["timezone"], passwords.get(("source", name), ""))
            for name, source in values["source"].items()
        },
        mapping=_mapping(values["mapping"], folder),
        server=_server(values["server"], folder),
        desk=_desk(values["desk"], folder),
        metrics=HttpPlace(*split_address(values["metrics"]["listen"])) if values["metrics"]["enabled"] else None,
        payment_notify=_place(values["payment_notify"], folder),
        relay=_relay(values["relay"], folder, passwords.get(_PROXY, "")),
        watch=WatchSettings(values["watch"]["enabled"], values["watch"]["poll"]),
        delivery=_delivery(values["delivery"], folder, passwords.get(_NATS, "")),
        limits=LimitSettings(limits["calls"], limits["time"], limits["grace"]),
        log=_log(values["log"], folder),
        insurance=insurance_settings(values["insurance"]),
        payment=payment_settings(values["payment"]),
        drops={name: _drop(name, drop, folder) for name, drop in values["drop"].items()},
        off=tuple(values["operations"]["off"]),
        report=report_settings(values["report"], folder, (folder / values["state"]["path"]).parent),
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
    usual = default_lanes(settings.engine)
    lanes = {lane: replace(usual[lane], **size) for lane, size in values["lanes"].items()}
    slow = SlowCallSettings(values["slow_after"], values["slow_percent"])
    return SourceConfig(settings, lanes, LoadSettings(slow, parse_spans(values["quiet_hours"])))


def _drop(name: str, values: Mapping[str, Any], folder: Path) -> DropSettings:
    own = {key: value for key, value in values.items() if key not in ("folder", "max_megabytes")}
    return DropSettings(name, folder / values["folder"], **own, max_bytes=values["max_megabytes"] * 1024 * 1024)


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


def _desk(values: Mapping[str, Any], folder: Path) -> DeskSettings:
    trust = Trust(values["trust"])
    place = _place(values, folder)
    return DeskSettings(place, _path(folder, values["keys"]), values["patience"], trust, values["overdue"])


def _place(values: Mapping[str, Any], folder: Path) -> HttpPlace | None:
    if not values["enabled"]:
        return None
    host, port = split_address(values["listen"])
    if values["insecure"]:
        return HttpPlace(host, port)
    return HttpPlace(host, port, *(_path(folder, values.get(key, "")) for key in ("certificate", "key", "client_ca")))


def _relay(values: Mapping[str, Any], folder: Path, password: str) -> RelaySettings:
    return RelaySettings(
        enabled=values["enabled"],
        addresses=tuple(values["addresses"]),
        certificate=_path(folder, values["certificate"]),
        key=_path(folder, values["key"]),
        ca=_path(folder, values["ca"]),
        authority=values["authority"],
        proxy=parse_proxy(values["proxy"], values["proxy_user"], password) if values["proxy"] else None,
        redial_first=values["redial_first"],
        redial_most=values["redial_most"],
        dead_after=values["dead_after"],
        calls=values["calls"],
    )


def _delivery(values: Mapping[str, Any], folder: Path, password: str) -> DeliverySettings:
    nats = values["nats"]
    return DeliverySettings(
        sink=cast(SinkName, values["sink"]),
        folder=folder / values["folder"],
        nats=NatsSettings(
            servers=tuple(nats["servers"]),
            stream=nats["stream"],
            prefix=nats["prefix"],
            create=nats["create"],
            user=nats["user"],
            password=password,
            credentials=_path(folder, nats["credentials"]),
            ca=_path(folder, nats["ca"]),
            certificate=_path(folder, nats["certificate"]),
            key=_path(folder, nats["key"]),
        ),
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
