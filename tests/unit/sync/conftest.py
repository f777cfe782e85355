"""Fixtures of this room's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sync.stores.sqlite import SqliteStore
from tests.unit.sync.bench import Clock, MemoryHis, open_sqlite


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def his() -> MemoryHis:
    return MemoryHis()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    opened = open_sqlite(tmp_path, clock)
    yield opened
    await opened.close()
