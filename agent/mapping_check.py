"""Checking candidate mappings in a process of its own, so that calls do not share their interpreter with it.

A check reads every file, parses every statement and takes up to a second of processor time; a defect in it, or a text
that it chokes on, must cost a refused candidate and never the agent.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.spawn import get_executable
from pathlib import Path
from typing import Any, Final

from his_db.document.problem import DocumentError, Place, Problem, Severity
from his_db.mapping.load import load_mapping_set

_LOG: Final = logging.getLogger(__name__)
# For what hangs. A service manager gives up a start after 180 s; good mappings on a machine that is busy with its own
# start must not be what makes it.
_LIMIT: Final = timedelta(seconds=150)
_MARGIN: Final = 5.0  # seconds beyond the limit after which a child whose agent has died ends by itself
# Windows: below the agent's priority, and no console window. Elsewhere the child lowers its priority itself.
_CALM: Final = int(getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0))
_HIDDEN: Final = int(getattr(subprocess, "CREATE_NO_WINDOW", 0))


class MappingCheck:
    """Checks folders. Blocks: call it in a thread, one call at a time; ``close`` may come from another.

    The child is started by the first check and goes on until ``rest`` or ``close``. ``command``: what to start. The
    first check is that of the agent's start, which waits for it; it alone has the agent's own priority.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        timezone: str,
        *,
        limit: timedelta = _LIMIT,
        command: Sequence[str] | None = None,
    ) -> None:
        self._sources = dict(sources)
        self._timezone = timezone
        self._limit = limit.total_seconds()
        self._command = command or (os.fsdecode(get_executable()), "-m", "agent.mapping_check_child")
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._closed = False
        self._is_first = True

    def check(self, folder: Path) -> str:
        """The revision of the set. Raises DocumentError: with its problems, or because it cannot be checked."""
        question = {
            "folder": str(folder),
            "sources": self._sources,
            "timezone": self._timezone,
            "seconds": self._limit + _MARGIN,
            "is_urgent": self._is_first,
        }
        flags, self._is_first = _HIDDEN if self._is_first else _HIDDEN | _CALM, False
        answer = self._asked(self._child, question)
        if answer is None:  # no child yet, or it has died meanwhile: with another one the candidate gets its chance
            try:
                child = self._start(flags)
            except OSError as error:  # no processes to be had: better here than not at all
                _LOG.warning("no process for the check: %s", error.strerror or type(error).__name__)
                return load_mapping_set(folder, sources=self._sources, timezone=self._timezone).revision
            answer = self._asked(child, question)
            if answer is None:
                raise _failed("the agent stops" if self._closed else child.end())
        if "defect" in answer:
            raise _failed(str(answer["defect"]))
        if "problems" in answer:
            raise DocumentError([_problem(fields) for fields in answer["problems"]])
        return str(answer["revision"])

    def rest(self) -> None:
        """End the child; the next check starts another."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.end()

    def close(self) -> None:
        """Check no more; a check under way fails at once."""
        self._closed = True
        self.rest()

    def _asked(self, child: _Child | None, question: Mapping[str, Any]) -> dict[str, Any] | None:
        """The child's answer; None when it has none. Raises DocumentError when it took too long."""
        answer = None if child is None else child.ask(question, self._limit)
        if answer is None and child is not None and child.is_late:
            self.rest()
            raise _failed(child.end())
        return answer

    def _start(self, flags: int) -> _Child:
        self.rest()
        with self._lock:
            if self._closed:
                raise _failed("the agent stops")
            self._child = _Child(self._command, flags)
            return self._child


class _Child:
    """One process. ``ask`` in one thread, ``end`` in any."""

    def __init__(self, command: Sequence[str], flags: int) -> None:
        """Raises OSError."""
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1"},
            creationflags=flags,
            start_new_session=os.name == "posix",  # Ctrl-C at the console is the agent's business
        )
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._has_ended = False
        self._late = ""
        threading.Thread(target=self._read, name="mapping-check", daemon=True).start()

    @property
    def is_late(self) -> bool:
        """Whether an answer did not come in time."""
        return bool(self._late)

    def ask(self, question: Mapping[str, Any], seconds: float) -> dict[str, Any] | None:
        """The answer; None when the process died, or had to be ended because none came in time."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=seconds)
        except (OSError, ValueError):  # its end of the pipe is closed, or ours
            line = b""
        except queue.Empty:
            self._late = f"it took longer than {seconds:g} s"
            line = b""
        try:
            found = json.loads(line) if line else None
        except ValueError:
            found = None
        return found if isinstance(found, dict) else None

    def end(self) -> str:
        """End it if it has not ended by itself; how it ended, in English."""
        if not self._has_ended:
            self._process.kill()
        code = self._process.wait()
        assert self._process.stdin is not None
        with suppress(OSError):  # what it was sent last cannot be sent any more
            self._process.stdin.close()
        return self._late or f"its process ended with {code}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._has_ended = True
        self._answers.put(b"")


def _problem(fields: Mapping[str, Any]) -> Problem:
    place, severity = Place(**fields["place"]), Severity(fields["severity"])
    return Problem(**{**fields, "place": place, "severity": severity})


def _failed(why: str) -> DocumentError:
    problem = Problem(
        Place("mappings", 1, 1),
        "H713",
        f"the mappings could not be checked: {why}",
        f"映射检查未能完成：{why}",
        "run his160 mapping check; save a file again to have the agent check once more",
        "请运行 his160 mapping check 查看原因；重新保存任一文件即可让代理程序再次检查",
    )
    return DocumentError([problem])
