"""``python -m agent`` and the program ``his160``."""

from __future__ import annotations

import sys

from agent.cli import run


def main() -> int:
    """Entry point of the program; the exit code."""
    return run(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
