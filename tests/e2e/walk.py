"""Pages for people, executed literally: every file block is written, every command run, every line compared.

The pages' conventions, all of them ordinary Markdown:

- a fence with ``title=NAME`` is a file; the page shows the whole of it;
- a ``console`` fence holds ``$ command`` lines, each followed by the lines that it must print, in this order;
  ``…`` stands for anything: within a line for some text, alone for any number of lines;
- ``exit=N`` on the fence: the last command ends with N instead of 0; ``wait``: repeated until it prints that;
  ``background``: started, and kept until the fence ``stop``;
- the walk-through is written as if tomorrow were 2026-03-03; every spelling of that date becomes tomorrow's.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.cli import run
from agent.demo.child import Child
from agent.demo.site import NotInTime, free_port, wait_for
from tests.bounds import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "zh"
_FENCE = re.compile(r"^```(?P<info>[^\n`]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_SECONDS = 60.0  # of a bounded wait; the machine may be busy


@dataclass(frozen=True, slots=True)
class Block:
    """One fence of the page: the words after the backticks, what is in it, and where it begins."""

    words: tuple[str, ...]
    body: str
    line: int

    def option(self, name: str) -> str:
        """The value of ``name=value``, empty when it is not there."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")), "")


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended: its exit code, and both outputs in one."""

    code: int
    printed: str


def blocks_of(page: str) -> list[Block]:
    """Every fence with a language, in order."""
    return [
        Block(tuple(found["info"].split()), found["body"], page.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(page)
    ]


def commands_of(body: str) -> list[tuple[str, list[str]]]:
    """Each ``$ command`` with the lines shown below it."""
    commands: list[tuple[str, list[str]]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], []))
        else:
            commands[-1][1].append(line)
    return commands


def first_missing(shown: list[str], printed: str) -> str | None:
    """The first shown line that the output has not, at its place; None when the excerpt is true."""
    parts: list[str] = []
    for line in shown:
        gap = line.strip() == "…"
        parts.append(r"(?:[^\n]*\n)*?" if gap else ".*?".join(map(re.escape, line.rstrip().split("…"))) + r"[ \t]*\n")
        if not re.match("".join(parts), printed):
            return line
    return None if re.fullmatch("".join(parts), printed) else "(end of output)"


def _begins(wanted: re.Pattern[str], line: str) -> bool:
    return wanted.match(line) is not None


class Walk:
    """One person's sitting with a page: a folder, ports, and at most one agent that runs."""

    def __init__(self, folder: Path, page: str) -> None:
        self.folder = folder
        self.page = page
        # The page's port may be taken on a machine that tests; the environment wins over the file.
        paths = os.pathsep.join((str(ROOT), str(ROOT / "proto" / "gen")))
        self.environ = {
            "HIS160__SERVER__LISTEN": f"127.0.0.1:{free_port()}",
            "PYTHONPATH": paths,
            "PYTHONUTF8": "1",
            "PYTHONWARNINGS": "error",
        }
        self.agent: Child | None = None

    def do(self, block: Block) -> None:
        """Carry out one block. Raises AssertionError naming the page's line."""
        name = block.option("title")
        if name:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.body, encoding="utf-8", newline="\n")
        elif "stop" in block.words:
            self.stop()
        elif "background" in block.words:
            self._start(block)
        elif block.words[0] == "console":
            commands = commands_of(block.body)
            for at, (command, shown) in enumerate(commands, start=1):
                code = int(block.option("exit") or 0) if at == len(commands) else 0
                self._expect(block, command, shown, code)

    def stop(self) -> None:
        """End the agent in order; it must have ended well."""
        if self.agent is not None:
            agent, self.agent = self.agent, None
            code = agent.stop()
            assert code == 0, (code, agent.tail(40))

    def _start(self, block: Block) -> None:
        ((command, shown),) = commands_of(block.body)
        arguments = shlex.split(command)
        assert arguments.pop(0) == "his160"
        config = ["--config", str(self.folder / "config.toml")]
        self.agent = Child("agent", [*arguments, *config], self.folder / "logs", self.environ)
        for line in shown:
            wanted = re.compile(".*?".join(map(re.escape, line.split("…"))))
            self.agent.wait_line(partial(_begins, wanted), _SECONDS)

    def _expect(self, block: Block, command: str, shown: list[str], code: int) -> None:
        done = self._run(command)

        def fits() -> bool:
            return done.code == code and (not shown or first_missing(shown, done.printed) is None)

        def again() -> bool:
            nonlocal done
            done = self._run(command)
            return fits()

        if "wait" in block.words and not fits():
            with suppress(NotInTime):  # what it printed last is said below
                wait_for(again, command, _SECONDS)
        where = f"{self.page}:{block.line}: {command}"
        missing = first_missing(shown, done.printed) if shown else None
        assert missing is None, f"{where}\nnot printed there: {missing}\n--- printed:\n{done.printed}"
        assert done.code == code, f"{where}\nended with {done.code}\n--- printed:\n{done.printed}"

    def _run(self, command: str) -> Done:
        program, *arguments = shlex.split(command)
        printed = io.StringIO()
        if program == "his160":  # what the program's entry calls, without the second that an interpreter takes to start
            with redirect_stdout(printed), redirect_stderr(printed):
                code = run(arguments)
            return Done(code, printed.getvalue())
        assert program == "python", f"people on Windows have no {program}"
        done = subprocess.run(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=PATIENCE,
            check=False,
            env={**os.environ, **self.environ},
        )
        return Done(done.returncode, done.stdout)
