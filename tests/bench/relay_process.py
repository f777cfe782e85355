"""The process of ``relay_server``, started and ended by its own handle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self


class RelayProcess:
    """``with RelayProcess(pki, store) as relay``: ``relay.addresses``; ``others``: of a second relay in it. ``pki``: the
    folder."""

    def __init__(self, pki: Path, store: Path) -> None:
        arguments = [sys.executable, "-m", "tests.bench.relay_server", "--pki", str(pki), "--store", str(store)]
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", cwd=Path(__file__).parents[2]
        )
        found = self._answer()
        self.addresses = {name: value for name, value in found.items() if " " not in name}
        self.others = {name.removeprefix("other "): value for name, value in found.items() if " " in name}

    def hears(self, reports: bool) -> None:
        """Whether it reads what reports send, from now on."""
        assert self._process.stdin is not None
        self._process.stdin.write("hears\n" if reports else "deaf\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> dict[str, str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the relay ended with {self._process.wait(10)}")
        found: dict[str, str] = json.loads(line)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process.stdout.close()
