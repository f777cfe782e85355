"""Moving a file over another one, also where somebody looks at it just now.

On Windows a file cannot be replaced or moved while a program has it open: our own readers, a virus scanner, an indexer.
These are done in a moment, so the move is tried again for two seconds. Somebody who keeps it open (a sheet in Excel) is
an error as before.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

# Seconds; together two.
_PAUSES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.62)


def move(
    source: Path,
    target: Path,
    *,
    waits: bool = sys.platform == "win32",
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """``os.replace``, with patience on Windows (``waits``). Blocks for two seconds at most. Raises OSError."""
    for seconds in _PAUSES if waits else ():
        try:
            os.replace(source, target)
        except PermissionError:  # ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION
            pause(seconds)
        else:
            return
    os.replace(source, target)
