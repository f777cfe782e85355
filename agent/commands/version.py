"""``his160 version``."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence

from agent.version import VERSION


def main(arguments: Sequence[str]) -> int:
    """Print the versions of his160, Python and the system."""
    argparse.ArgumentParser(prog="his160 version", description="显示版本 / show the version").parse_args(arguments)
    print(f"his160 {VERSION} (Python {platform.python_version()}, {platform.system()} {platform.machine()})")
    return 0
