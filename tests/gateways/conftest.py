"""Keys are made once for all gateway tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def wechat_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from his_db.simulated.wechat_wire import make_keys

    folder = tmp_path_factory.mktemp("wechat-keys")
    make_keys(folder)
    return folder
