"""The bench itself still runs: its cheap parts in this process, and the form of the result. No timing is asserted."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.bench_pki import make_bench_pki
from agent.demo.hospital import create_hospital
from agent.demo.site import SITE
from tests.bench import capturing, conversion, draining, latency, ledger, link_loss, queued, sessions, stalled
from tests.bench.figures import Figure, Report, describe_machine, middle, percentile, table
from tests.bench.plan import FULL, QUICK
from tests.bench.relay_server import Hearing, serving

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


def test_a_mass_change_is_captured_beside_raw_inserts(tmp_path: Path) -> None:
    figure, stored = capturing.measure(tmp_path / "capture", 30, 1)
    check(figure)
    check(stored)
    assert [base.name for base in figure.against] == ["raw SQLite inserts", "raw SELECT and inserts"]


def test_a_start_with_many_events_is_measured(tmp_path: Path) -> None:
    (figure,) = queued.measure(tmp_path / "queued", 2 * queued.FEW, 1)
    check(figure)
    assert figure.more["store MB"] > 0


async def test_what_must_hold_of_delivery_is_measured(tmp_path: Path) -> None:
    """Here the relay runs in this process; ``python -m tests.bench.must_hold`` gives it one of its own."""
    pki, hearing = make_bench_pki(tmp_path / "pki", site=SITE), Hearing()
    one, other = (tmp_path / f"{name}.journal" for name in ("one", "other"))
    async with serving(pki, one, hearing) as addresses, serving(pki, other, hearing) as others:
        (figure,) = await draining.measure(pki, tmp_path / "drain", addresses, 2 * draining.BATCH, 1)
        check(figure)
        assert [base.name for base in figure.against] == ["trivial gRPC stream"]
        both = (addresses, others)
        p50, p99 = await stalled.measure(pki, tmp_path / "stall", both, hearing.set, 0.05, 2, pages=3, settle=0.0)
        his = tmp_path / "his.db"
        his.touch()
        pace = latency.Pace(changes=2, rows=5, poll=0.02, gaps=(0.0, 0.01))
        url, folder = f"sqlite:///{his}", tmp_path / "latency"
        polling, woken = await latency.measure(pki, folder, addresses["relay"], "sqlite", url, pace)
        seen, back = await link_loss.measure(pki, addresses["relay"], timedelta(seconds=0.3), 1, away=0.0)
    for figure in (p50, p99, seen, back):
        check(figure)
    for figure in (p50, p99):
        assert [base.name for base in figure.against] == ["a link without it, at the same time"]
    assert p50.value <= p99.value
    for figure in (polling, woken):
        check(figure)
        assert figure.params["changes"] == 2


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
