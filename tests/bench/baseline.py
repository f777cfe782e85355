"""The trivial handler's process, started and ended by its own handle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self


class Baseline:
    """``with Baseline(folder, pki, answers) as baseline``: ``port`` is where it listens, ``pid`` its process."""

    def __init__(self, folder: Path, pki: Path, answers: Mapping[str, bytes]) -> None:
        """``answers``: bytes of an answer by operation, taken from the agent, so that sizes are the same."""
        place = folder / "answers"
        place.mkdir(parents=True, exist_ok=True)
        for operation, answer in answers.items():
            (place / f"{operation}.bin").write_bytes(answer)
        arguments = [sys.executable, "-m", "tests.bench.baseline_server", "--pki", str(pki), "--answers", str(place)]
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", cwd=Path(__file__).parents[2]
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the trivial handler ended with {self._process.wait(10)}")
        self.port = int(json.loads(line)["port"])

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

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
