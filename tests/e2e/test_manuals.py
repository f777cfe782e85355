"""The manuals for the hospital, executed literally (``tests/e2e/walk.py`` says how), and every command that they name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import cli
from agent.commands.registry import COMMANDS
from tests.e2e.walk import PAGES, Walk, blocks_of

MANUALS = ("install.md", "dba.md", "operations.md")
NAMED = (*MANUALS, "audit.md", "desk.md", "doctor.md", "state.md", "unknown-outcomes.md", "watch.md", "reports.md")
_INLINE = re.compile(r"`(his160 [^`\n]*)`")


@pytest.mark.parametrize("name", MANUALS)
def test_a_manual_is_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    walk = Walk(tmp_path, name)
    for variable, value in walk.environ.items():
        monkeypatch.setenv(variable, value)
    try:
        done = 0
        for block in blocks_of((PAGES / name).read_text(encoding="utf-8")):
            done += "console" in block.words
            walk.do(block)
        assert done >= 2
        assert walk.agent is None, "the page does not say how to stop the agent"
    finally:
        walk.stop()


@pytest.mark.parametrize("name", ["dba.md", "operations.md"])
def test_no_command_of_a_manual_is_only_printed(name: str) -> None:
    """What stands in a fence of another kind would not be executed."""
    page = (PAGES / name).read_text(encoding="utf-8")
    fences = re.findall(r"^```([^\n]*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert [words for words, body in fences if "his160" in body and not words.startswith("console")] == []


def named_commands(page: str) -> Iterator[list[str]]:
    """Every command of the page as words: those of fences of every kind, and those between backticks."""
    lines = [line.strip().removeprefix("$ ") for line in page.splitlines()]
    texts = [line.partition("  #")[0] for line in lines if line.startswith("his160 ")]
    for text in (*_INLINE.findall(page), *texts):
        words = shlex.split(text.replace("…", "").replace("|", " "), posix=False)
        if len(words) > 1:
            yield words[1:]


@pytest.mark.parametrize("name", NAMED)
def test_every_command_that_a_page_names_exists(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = list(named_commands((PAGES / name).read_text(encoding="utf-8")))
    assert found, name
    helped: dict[tuple[str, ...], str] = {}
    for words in found:
        plain = [word for word in words if re.fullmatch(r"[a-z][a-z0-9-]*", word)]
        path = tuple(words[: next((at for at, word in enumerate(words) if word not in plain), len(words))])
        # "mapping check" has a parser of its own, "state backup" too; "call X.Y" and "status" have one.
        for length in range(min(2, len(path)), 0, -1):
            chosen = path[:length]
            if chosen not in helped:
                assert chosen[0] in COMMANDS, f"{name}: his160 {' '.join(words)}"
                code = cli.run([*chosen, "--help"])
                said = capsys.readouterr()
                helped[chosen] = said.out if code == 0 else ""
            if helped[chosen]:
                break
        text = helped[chosen]
        assert text, f"{name}: there is no his160 {' '.join(path)}"
        for word in words:
            option = word.partition("=")[0]
            if re.fullmatch(r"--[a-z][a-z-]*", option):
                assert option in text, f"{name}: his160 {' '.join(path)} has no {option}"
