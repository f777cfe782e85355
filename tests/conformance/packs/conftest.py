"""Fixtures of the pack suites."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest

from his_db.access import HisAccess
from his_db.errors import HisError
from his_db.generation import Generation, compile_generation
from his_db.mapping.load import MappingSet, load_mapping_set
from his_db.registry import LIVE_SAMPLES, SAMPLES, load_sample
from his_db.sample import SMALL, hospital_now
from his_db.samples.population import build_world
from his_db.source import Source, settings_from_url
from tests.conformance.packs.hospital import ZONE, AgentClock, Hospital
from tests.live_mappings import mappings_of
from tests.servers import MariadbServer, opted_in, url_of


@pytest.fixture(scope="session")
def personal_values() -> frozenset[str]:
    """Name, number, phone and address of everybody in the small samples."""
    found: set[str] = set()
    for person in build_world(hospital_now().date(), SMALL, 160).patients:
        found |= {person.name, person.id_no, person.phone or "", person.address, *(person.guardian or ())[:2]}
    return frozenset(value for value in found if len(value) > 1)


@pytest.fixture(autouse=True)
def nothing_personal_is_logged_or_told(
    personal_values: frozenset[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Whatever a test of a pack does: no log record and no text of an error names anybody."""
    told: list[str] = []
    plain = HisError.__init__

    def recording(self: HisError, detail: str, **more: Any) -> None:
        told.append(detail)
        plain(self, detail, **more)

    monkeypatch.setattr(HisError, "__init__", recording)
    caplog.set_level(logging.DEBUG)
    yield
    told += [record.getMessage() for record in caplog.get_records("call")]
    assert [f"{value[:1]}… in {text[:60]}" for text in told for value in personal_values if value in text] == []


@pytest.fixture(scope="module", params=[*sorted(SAMPLES), *sorted(LIVE_SAMPLES)])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, opted_in_servers: ExitStack
) -> tuple[str, str]:
    """A fresh sample HIS, small, for a module; SQL Server and Oracle where the url of a server is given."""
    sample = load_sample(request.param)
    if sample.engine == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('his') / 'his.db'}"
    elif sample.engine == "mysql":
        url = request.getfixturevalue("mariadb_module_url")
    elif request.param in LIVE_SAMPLES:
        url = url_of(opted_in_servers.enter_context(opted_in(sample.engine)))
    else:
        at = request.getfixturevalue("postgresql_module_database")
        secret = f":{at.password}" if at.password else ""
        url = f"postgresql+psycopg://{at.user}{secret}@{at.host}:{at.port}/{at.database}"
    sample.create(url, today=hospital_now().date(), size=SMALL)
    return request.param, url


@pytest.fixture(scope="module")
def opted_in_servers() -> Iterator[ExitStack]:
    """Holds what the opt-in suite made on servers, until the module is done."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def mariadb_module_url(mariadb_server: MariadbServer) -> Iterator[str]:
    """One fresh MariaDB database for the module, as the url that a sample takes."""
    with mariadb_server.database() as at:
        secret = f":{at.password}" if at.password else ""
        yield f"mysql+pymysql://{at.user}{secret}@{at.host}:{at.port or 3306}/{at.database}"


@pytest.fixture(scope="session")
def pack_mappings(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], MappingSet]:
    """The mappings of a sample's pack, loaded and checked once for all modules."""

    @cache
    def loaded(name: str) -> MappingSet:
        folder = mappings_of(name, tmp_path_factory.mktemp("pack"))
        return load_mapping_set(folder, sources={"his": load_sample(name).engine}, timezone=ZONE)

    return loaded


@pytest.fixture(scope="module")
def pack_generation(site: tuple[str, str], pack_mappings: Callable[[str], MappingSet]) -> Generation:
    """The mappings of the sample's pack, compiled once for the module."""
    return compile_generation(pack_mappings(site[0]))


@pytest.fixture
async def hospital(site: tuple[str, str], pack_generation: Generation) -> AsyncIterator[Hospital]:
    name, url = site
    source = Source(settings_from_url("his", url), None)
    window, clock = load_sample(name).window(url), AgentClock()
    his = HisAccess({"his": source}, pack_generation, clock=clock)
    try:
        yield Hospital(name, url, his, window, hospital_now().date(), clock)
    finally:
        window.close()
        await source.close()
