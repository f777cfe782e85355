"""The place where the DBA's tools work: a mapping folder, the sources it names, and connections to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from his_db.catalogue.model import Catalogue
from his_db.catalogue.reader import CatalogueReader, reader_for
from his_db.engine import Engine, Fault, Session, SourceSettings
from his_db.held_connection import CallError
from his_db.mapping.load import MappingSet, load_mapping_set
from his_db.mapping.model import FILE
from his_db.source import LaneSettings, engine_for

_CATALOGUE_TIMEOUT: Final = timedelta(seconds=60)  # ALL_TAB_COLUMNS of a large Oracle HIS takes its time


class SourceFailed(Exception):
    """A source cannot be used. `fault` says why; the text is the engine's code and object, without values."""

    def __init__(self, source: str, fault: Fault, detail: str) -> None:
        super().__init__(f"{source}: {fault.value}: {detail}")
        self.source = source
        self.fault = fault
        self.detail = detail


def _now() -> datetime:
    return datetime.now(ZoneInfo("UTC"))


@dataclass(frozen=True, slots=True)
class Site:
    """`folder`: the mapping files. `sources`: as in config.toml. `state`: where revisions are kept, or None.
    `lanes`: sizes that differ from the default, by source. `poll`: how often a watch reads when it does not say.
    `drops`: folders for dropped files, which watches name as their source."""

    folder: Path
    sources: Mapping[str, SourceSettings]
    timezone: str = "Asia/Shanghai"
    state: Path | None = None
    lanes: Mapping[str, Mapping[str, LaneSettings]] = field(default_factory=dict)
    poll: timedelta = timedelta(milliseconds=500)
    clock: Callable[[], datetime] = field(default=_now, compare=False)
    drops: tuple[str, ...] = ()

    @property
    def engines(self) -> dict[str, str]:
        """Source name -> engine name."""
        return {**dict.fromkeys(self.drops, FILE), **{name: source.engine for name, source in self.sources.items()}}

    def load(self, folder: Path | None = None, *, is_checked: bool = False) -> MappingSet:
        """The mapping set. Raises DocumentError with every problem. `is_checked`: this very set runs already."""
        return load_mapping_set(
            folder or self.folder, sources=self.engines, timezone=self.timezone, is_checked=is_checked
        )


@dataclass(frozen=True, slots=True)
class Connection:
    """A source in use: its engine, one read-only session, and the reader of its catalogue."""

    name: str
    engine: Engine
    session: Session
    reader: CatalogueReader

    def catalogue(self) -> Catalogue:
        """Read the catalogue. Raises SourceFailed."""
        try:
            return self.reader.read(self.session)
        except self.engine.driver_errors as error:
            raise self.failed(error) from None

    def failed(self, error: BaseException) -> SourceFailed:
        """A driver's exception in the words of this room."""
        return SourceFailed(self.name, self.engine.classify(error, sent=True), self.engine.describe(error))


@contextmanager
def connected(settings: SourceSettings) -> Iterator[Connection]:
    """A read-only connection, closed afterwards. Raises SourceFailed when the source does not answer."""
    try:
        engine = engine_for(settings)
    except CallError as error:  # its driver is not installed
        raise SourceFailed(settings.name, Fault.CONNECT, str(error)) from None
    try:
        try:
            session = engine.open(read_only=True, statement_timeout=_CATALOGUE_TIMEOUT)
        except engine.driver_errors as error:
            fault = engine.classify(error, sent=False)
            raise SourceFailed(settings.name, fault, engine.describe(error)) from None
        try:
            yield Connection(settings.name, engine, session, reader_for(settings.engine))
        finally:
            session.close()
    finally:
        engine.dispose()


@contextmanager
def planning(connection: Connection, *, is_select: bool) -> Iterator[Session]:
    """A session in which a statement can be planned: the read-only one, or where that refuses to plan a write
    (MySQL), one with a transaction that is rolled back. Raises the driver's exceptions."""
    if is_select or connection.reader.plans_writes_read_only:
        yield connection.session
        return
    session = connection.engine.open(read_only=False)
    try:
        session.begin()
        yield session
        session.rollback()
    finally:
        session.close()


def catalogues(site: Site, names: set[str]) -> dict[str, Catalogue]:
    """The catalogues of the sources named. Raises SourceFailed, KeyError for a source that is not there."""
    found: dict[str, Catalogue] = {}
    for name in sorted(names):
        with connected(site.sources[name]) as connection:
            found[name] = connection.catalogue()
    return found
