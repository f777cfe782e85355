"""Moving over a file that somebody looks at, as Windows refuses it for a moment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from his_db.move import move


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "new", tmp_path / "old"
    source.write_text("new")
    target.write_text("old")
    return source, target


def refusing(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """``os.replace`` refuses that many times, as Windows does while a reader has the file open."""
    real, left = os.replace, [times]

    def replace(source: Path, target: Path) -> None:
        if left[0]:
            left[0] -= 1
            raise PermissionError(13, "ERROR_ACCESS_DENIED")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)


def test_a_reader_is_waited_for(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(3, monkeypatch)
    waited: list[float] = []
    move(*files, waits=True, pause=waited.append)
    assert files[1].read_text() == "new"
    assert waited == [0.01, 0.02, 0.05]


def test_somebody_who_keeps_it_open_is_an_error_after_two_seconds(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(1000, monkeypatch)
    waited: list[float] = []
    with pytest.raises(PermissionError):
        move(*files, waits=True, pause=waited.append)
    assert sum(waited) == pytest.approx(2)
    assert files[0].read_text() == "new"
    assert files[1].read_text() == "old"


def test_elsewhere_a_refusal_is_one(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(1, monkeypatch)
    with pytest.raises(PermissionError):
        move(*files, waits=False, pause=lambda _: pytest.fail("waits"))
