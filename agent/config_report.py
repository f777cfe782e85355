"""``[report]`` of the configuration: which reports run by themselves, and where their files and rows go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """``files``: formats of the files of scheduled runs, in ``folder``. ``publish``: the relay gets their rows."""

    enabled: bool
    folder: Path
    files: tuple[str, ...] = ("xlsx",)
    publish: bool = True
    catch_up: timedelta = timedelta(days=7)
    keep: timedelta = timedelta(days=400)


NO_REPORTS: Final = ReportSettings(enabled=False, folder=Path("reports"))
"""Of a process that runs none by itself."""


def report_settings(values: Mapping[str, Any], folder: Path, state: Path) -> ReportSettings:
    """The section as it was read; ``folder``: of the configuration file; ``state``: of the state store."""
    return ReportSettings(
        enabled=values["enabled"],
        folder=folder / values["folder"] if values["folder"] else state / "reports",
        files=tuple(dict.fromkeys(values["files"])),
        publish=values["publish"],
        catch_up=values["catch_up"],
        keep=values["keep"],
    )
