"""One session of Windows for all tests of this room: a boot under wine costs as much as a test."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.windows.session import Windows, windows_session


@pytest.fixture(scope="session")
def windows() -> Iterator[Windows]:
    """Windows, switched on; switched off afterwards with everything that runs on it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is asked to end does so in order
    with windows_session() as session:
        yield session
