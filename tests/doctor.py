"""A small site for the doctor to look at, broken in one way by each test."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.config import read_settings
from agent.doctor.check import Context, RunningAgent
from agent.doctor.examine import Examined, examine, exit_code
from agent.doctor.finding import Finding
from agent.doctor.registry import AREAS
from his_db.document.problem import Severity

HEAD = """\
site.code = "440305160"
state.path = "state/agent.db"
mapping.path = "mappings"
delivery.sink = "pull"
report.enabled = false
"""
SQLITE = '[source.his]\nengine = "sqlite"\ndatabase = "his.db"\n'
SERVER = "[server]\nenabled = true\ninsecure = true\n"


MAPPING = """\
schema = 1
operation = "PatientService.ListVisitors"
kind = "unsupported"
why = "没有就诊人"
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the doctor said of some areas."""

    results: list[Examined]

    @property
    def found(self) -> list[Finding]:
        """Every finding."""
        return [finding for result in self.results for finding in result.findings.found]

    @property
    def errors(self) -> list[str]:
        """Codes of errors."""
        return [finding.code for finding in self.found if finding.severity is Severity.ERROR]

    @property
    def notes(self) -> list[str]:
        """Codes of warnings."""
        return [finding.code for finding in self.found if finding.severity is Severity.WARNING]

    @property
    def facts(self) -> str:
        """What is good, as one text."""
        return "\n".join(f"{fact.zh} {fact.en}" for result in self.results for fact in result.findings.facts)

    @property
    def code(self) -> int:
        """The exit code."""
        return exit_code(self.results)


class Patient:
    """A folder with a configuration. ``look`` examines it; keywords replace fields of the context."""

    def __init__(self, folder: Path, *, source: str = SQLITE, server: str = SERVER, more: str = "") -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        if not (folder / "mappings").exists():
            (folder / "mappings").mkdir()
            (folder / "mappings" / "visitors.toml").write_text(MAPPING, encoding="utf-8")
        self.write(HEAD + source + server + more)
        if source is SQLITE and not (folder / "his.db").exists():
            with closing(sqlite3.connect(folder / "his.db")) as connection:
                connection.execute("PRAGMA user_version = 1")

    def write(self, text: str) -> None:
        """The configuration."""
        self.config.write_text(text, encoding="utf-8")

    def context(self, environ: Mapping[str, str] | None = None, **changes: Any) -> Context:
        """As the command makes it."""
        reading = read_settings(self.config, environ or {})
        assert reading.settings is not None, reading.problems
        runs = RunningAgent(reading.settings.state)
        return Context(
            **{"file": self.config, "reading": reading, "settings": reading.settings, "agent_runs": runs, **changes}
        )

    def look(self, *areas: str, environ: Mapping[str, str] | None = None, **changes: Any) -> Seen:
        """What the doctor says; every finding is checked to be told in both languages, with its fix."""
        wanted: Sequence[str] = areas or tuple(AREAS)
        seen = Seen(examine(self.context(environ, **changes), wanted))
        for finding in seen.found:
            assert any("\u4e00" <= char <= "\u9fff" for char in finding.zh), finding
            assert any("\u4e00" <= char <= "\u9fff" for char in finding.fix_zh), finding
            assert finding.en
            assert finding.fix_en
            assert finding.where
        return seen
