"""Hospitals for the end-to-end tests: each kind of sample HIS, small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.demo.hospital import Hospital
from tests.e2e.site import Bench, Measured, bench, small_hospital

_TIMES: pytest.StashKey[list[tuple[str, float]]] = pytest.StashKey()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """Keeps a measured time for the end of the run."""
    times = request.config.stash.setdefault(_TIMES, [])
    return lambda what, seconds: times.append((f"{request.node.name}: {what}", seconds))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what was measured."""
    times = config.stash.get(_TIMES, [])
    if times:
        terminalreporter.section("measured end to end")
    for what, seconds in sorted(times):
        terminalreporter.write_line(f"{seconds:7.3f} s  {what}")


@pytest.fixture(params=["sqlite", "postgresql"])
def hospital(request: pytest.FixtureRequest, tmp_path: Path) -> Hospital:
    """A small hospital of each kind, for one test."""
    settings = request.getfixturevalue("postgresql_database")() if request.param == "postgresql" else None
    return small_hospital(request.param, tmp_path, settings)


@pytest.fixture
def sqlite_hospital(tmp_path: Path) -> Hospital:
    """A small hospital in a SQLite file, where the engine is not the question."""
    return small_hospital("sqlite", tmp_path)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A running site of each kind, shared by a module; each test takes orders of its own from the stock."""
    folder = tmp_path_factory.mktemp(request.param)
    settings = request.getfixturevalue("postgresql_module_database") if request.param == "postgresql" else None
    with bench(folder, small_hospital(request.param, folder, settings), stock=12) as made:
        yield made
