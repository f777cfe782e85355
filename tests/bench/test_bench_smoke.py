"""The bench itself still runs: its cheap parts in this process, and the form of the result. No timing is asserted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.demo.hospital import create_hospital
from tests.bench import conversion, ledger, sessions
from tests.bench.figures import Figure, Report, describe_machine, middle, percentile, table
from tests.bench.plan import FULL, QUICK

TINY = replace(QUICK, micro_rounds=2, micro_seconds=0.005, commands=8)


def check(figure: Figure) -> None:
    assert figure.value > 0
    assert figure.unit
    for base in figure.against:
        assert base.value > 0
        assert base.ratio > 0


def test_conversion_gives_a_figure_for_each_size() -> None:
    figures = conversion.measure(TINY)
    assert [figure.params["rows"] for figure in figures] == list(conversion.SIZES)
    for figure in figures:
        check(figure)
        assert [base.name for base in figure.against] == ["bare tuples", "dict per row"]
        assert figure.noise is not None


def test_a_held_session_gives_a_figure_for_each_size(tmp_path: Path) -> None:
    hospital = create_hospital("sqlite", tmp_path)
    figures = sessions.measure(TINY, hospital)
    assert [figure.params["rows"] for figure in figures] == list(sessions.SIZES)
    for figure in figures:
        check(figure)
    sessions.measure(TINY, hospital)  # it leaves nothing behind


def test_ledger_gives_commands_beside_raw_commits(tmp_path: Path) -> None:
    raw, *commands = ledger.measure(TINY, tmp_path / "ledger")
    check(raw)
    assert [figure.params["in flight"] for figure in commands] == [1, 8, 32]
    for figure in commands:
        check(figure)
        assert figure.against[0].value == raw.value
        assert figure.against[0].ratio == pytest.approx(2 * figure.value / raw.value)


def test_the_report_is_one_json_object_and_a_table() -> None:
    report = Report(True, "2026-11-23 08:00 UTC", describe_machine(), conversion.measure(TINY))
    found = json.loads(json.dumps(report.as_json()))
    assert {"schema", "quick", "date", "machine", "load", "seconds", "notes", "figures"} == set(found)
    for figure in found["figures"]:
        assert {"group", "name", "value", "unit", "params", "against", "more", "noise"} == set(figure)
        assert all({"name", "value", "ratio"} == set(base) for base in figure["against"])
    lines = table(report).splitlines()
    assert sum("compiled builder" in line for line in lines) == len(conversion.SIZES)


def test_percentiles_and_noise() -> None:
    assert percentile([], 0.5) == 0
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(list(range(1, 101)), 0.99) == 99
    assert percentile([5, 7], 1.0) == 7
    assert middle([10]) == (10, None)
    value, noise = middle([8, 10, 12])
    assert value == 10
    assert noise == pytest.approx(0.2)


def test_the_quick_form_is_smaller_in_every_way() -> None:
    assert set(QUICK.in_flight) < set(FULL.in_flight)
    assert set(QUICK.kinds) < set(FULL.kinds)
    for name in ("rounds", "read_seconds", "idle_seconds", "singles", "bursts", "burst", "commands", "reload_seconds"):
        assert getattr(QUICK, name) < getattr(FULL, name)
