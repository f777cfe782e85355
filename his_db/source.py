"""One HIS database: its engine, its breaker and its lanes.

Lanes keep kinds of work apart (design 3-mapping): a report cannot starve a booking, a slow poll cannot starve a read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from his_db import registry
from his_db.breaker import Breaker
from his_db.engine import Engine, SourceSettings
from his_db.lane import Lane, LaneStats
from his_db.quiet_hours import QuietHours, Span
from his_db.slow_calls import SlowCalls, SlowCallSettings, SlowCallStatus


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """Size of one lane. ``statement_timeout`` None: the source's own."""

    workers: int
    queue_limit: int
    statement_timeout: timedelta | None = None


DEFAULT_LANES: Final[Mapping[str, LaneSettings]] = {
    "read": LaneSettings(workers=2, queue_limit=200),
    "write": LaneSettings(workers=2, queue_limit=256),
    "watch": LaneSettings(workers=1, queue_limit=200),  # watches of one rhythm ask all at once
    "report": LaneSettings(workers=1, queue_limit=10, statement_timeout=timedelta(seconds=60)),
}
# SQLite has one writer at a time: a second worker of ours waits in the driver, sleeping between looks, where the queue
# is woken at once. Measured with one: half the p99 of a booking, and a quarter more bookings a second at 32 in flight.
_LANES_OF: Final[Mapping[str, Mapping[str, LaneSettings]]] = {
    "sqlite": {"write": LaneSettings(workers=1, queue_limit=256)},
}
_WRITING: Final = frozenset({"write"})
_MEASURED: Final = "read"  # reports are slow by nature, writes wait for locks, the watch has its own rhythm
_BULK: Final = "report"


def default_lanes(engine: str) -> Mapping[str, LaneSettings]:
    """The lanes of a source where its settings say nothing: DEFAULT_LANES, and what the engine needs otherwise."""
    return {**DEFAULT_LANES, **_LANES_OF.get(engine, {})}


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How the HIS is spared: when its reads count as slow, and hours without bulk reads."""

    slow: SlowCallSettings = field(default_factory=SlowCallSettings)
    quiet: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """Whether the database answers. ``since``: when ``ok`` last changed (UTC); ``detail``: no values, no passwords."""

    ok: bool
    since: datetime
    detail: str
    lanes: tuple[LaneStats, ...]
    slow: SlowCallStatus
    failures: int
    """Connects that failed in a row; 0: the breaker is closed."""
    quiet_refused: int


class Source:
    """The lanes of one HIS database. Nothing connects before the first call; ``close`` ends all threads.

    ``lanes`` replaces or adds to ``default_lanes`` by name; every lane but ``write`` is read-only. ``wall``: aware, for
    the quiet hours.
    Raises ValueError for an engine that the registry does not know.
    """

    def __init__(
        self,
        settings: SourceSettings,
        lanes: Mapping[str, LaneSettings] | None = None,
        *,
        engine: Engine | None = None,
        clock: Callable[[], float] = time.monotonic,
        breaker: Breaker | None = None,
        load: LoadSettings | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        load = load or LoadSettings()
        self.settings = settings
        self.engine = engine or engine_for(settings)
        self._breaker = breaker or Breaker(clock=clock)
        self._slow = SlowCalls(load.slow, clock=clock)
        self._quiet = QuietHours(load.quiet, settings.timezone, clock=wall)
        self._lanes = {
            name: Lane(
                name,
                self.engine,
                workers=lane.workers,
                queue_limit=lane.queue_limit,
                read_only=name not in _WRITING,
                clock=clock,
                statement_timeout=lane.statement_timeout,
                breaker=self._breaker,
                source=settings.name,
                gate=self._gate(name),
                observe=self._slow.ended if name == _MEASURED else None,
            )
            for name, lane in {**default_lanes(settings.engine), **(lanes or {})}.items()
        }

    @property
    def name(self) -> str:
        """The name in ``[source.<name>]``."""
        return self.settings.name

    def lane(self, name: str) -> Lane:
        """A lane by name. Raises KeyError for one that does not exist."""
        return self._lanes[name]

    async def ping(self, *, deadline: float | None = None) -> str:
        """The server's version text, through the watch lane. Raises HisError as ``Lane.run`` does."""
        return await self._lanes["watch"].run(self.engine.server_version, deadline=deadline)

    def status(self) -> SourceStatus:
        """What the last connects said; asks nothing of the database."""
        state = self._breaker.state()
        return SourceStatus(
            ok=state.ok is True,
            since=state.since,
            detail=state.detail,
            lanes=tuple(lane.stats() for lane in self._lanes.values()),
            slow=self._slow.status(),
            failures=state.failures,
            quiet_refused=self._quiet.refused,
        )

    def _gate(self, lane: str) -> Callable[[], None] | None:
        if lane == _BULK:
            return self._enter_bulk
        return self._slow.enter if lane == _MEASURED else None

    def _enter_bulk(self) -> None:
        self._quiet.enter()
        self._slow.enter()

    async def close(self, grace: timedelta = timedelta(seconds=10)) -> None:
        """Close all lanes together within ``grace``, then the engine. Safe to call twice."""
        await asyncio.gather(*(lane.close(grace) for lane in self._lanes.values()))
        self.engine.dispose()


def engine_for(settings: SourceSettings) -> Engine:
    """The engine of the settings, loaded from the registry. Raises ValueError when the registry does not know it."""
    entry = registry.ENGINES.get(settings.engine)
    if entry is None:
        known = ", ".join(registry.ENGINES)
        raise ValueError(f"source {settings.name}: unknown engine {settings.engine!r}; known: {known}")
    engine: Engine = registry.load(entry)(settings)
    return engine


def settings_from_url(name: str, url: str) -> SourceSettings:
    """``engine://user:password@host:port/database?schema=s&option=value`` as settings, for tests and the demo.

    SQLite: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite:///C:/his.db``. A socket directory goes into
    ``?host=/run/postgresql``. ``timezone``, ``schema``, ``connect_timeout``, ``statement_timeout`` and ``lock_timeout``
    (seconds) are settings, other query keys become ``options``. Raises ValueError (never quoting the url, which may
    hold a password).
    """
    parts = urlsplit(url)
    engine = parts.scheme.partition("+")[0]
    engine = {"postgres": "postgresql", "mariadb": "mysql"}.get(engine, engine)
    if engine not in registry.ENGINES:
        raise ValueError(f"source {name}: unknown engine in the url; known: {', '.join(registry.ENGINES)}")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    path = unquote(parts.path[1:])
    if engine == "sqlite" and parts.netloc:
        raise ValueError(
            f"source {name}: a SQLite url has three slashes (sqlite:///file) or four (sqlite:////abs/file)"
        )
    if not path:
        raise ValueError(f"source {name}: the url names no database")
    standard = SourceSettings(name=name, engine=engine, database=path)
    return SourceSettings(
        name=name,
        engine=engine,
        database=path,
        host=query.pop("host", "") or (parts.hostname or ""),
        port=parts.port or 0,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        schema=query.pop("schema", ""),
        timezone=query.pop("timezone", standard.timezone),
        connect_timeout=_seconds(query.pop("connect_timeout", None), standard.connect_timeout),
        statement_timeout=_seconds(query.pop("statement_timeout", None), standard.statement_timeout),
        lock_timeout=_seconds(query.pop("lock_timeout", None), standard.lock_timeout),
        options=query,
    )


def _seconds(text: str | None, default: timedelta) -> timedelta:
    return default if text is None else timedelta(seconds=float(text))
