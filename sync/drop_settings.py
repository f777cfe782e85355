"""What a folder for dropped files needs to know. Apart from the capture: a configuration is read also where the
libraries are missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

FORMATS: Final = ("csv", "json", "xml", "dbf")


@dataclass(frozen=True, slots=True)
class DropSettings:
    """``[drop.<name>]``. ``format`` and ``encoding`` may be ``auto``.

    ``row``: of XML the name of a row's element, of JSON the path to the list of rows.

    ``quiet``: a file that has not changed for so long may be complete; ``patience``: one that is not complete after so
    long never will be. ``keep``: how long files that were taken stay in ``done``.
    """

    name: str
    folder: Path
    format: str = "auto"
    encoding: str = "auto"
    delimiter: str = ","
    row: str = ""
    quiet: timedelta = timedelta(seconds=2)
    patience: timedelta = timedelta(minutes=10)
    max_bytes: int = 256 * 1024 * 1024
    max_rows: int = 1_000_000
    keep: timedelta = timedelta(days=7)
