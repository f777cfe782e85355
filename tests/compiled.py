"""What is started again and again finds its modules compiled, as pip leaves an installed agent."""

from __future__ import annotations

import compileall
import os
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[1]


def compile_all() -> None:
    """Some machines forbid Python to keep what it has compiled; then an agent takes a second more for each start, and
    keeps megabytes of it."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for room in ("agent", "sync", "his_db", "proto", "tests"):
        compileall.compile_dir(_ROOT / room, quiet=1)
