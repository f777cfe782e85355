"""The version of his160; the same as in pyproject.toml (a test says so)."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
