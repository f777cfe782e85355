"""The snapshot as Prometheus reads it: every figure is there, by a name that the table knows or under its own."""

from __future__ import annotations

import http.client
import json
from datetime import timedelta

import pytest
from his160.v1 import agent_pb2
from prometheus_client.parser import text_string_to_metric_families
from starlette.concurrency import run_in_threadpool

from agent.commands.top import rates_of
from agent.figures import Figures
from agent.http_place import HttpPlace
from agent.metrics import exposition
from agent.metrics_http import MetricsBorder
from tests.bounds import PATIENCE


def status(**figures: float) -> agent_pb2.GetStatusResponse:
    found = agent_pb2.GetStatusResponse(
        site="440305001", instance="a1", health=agent_pb2.HEALTH_DEGRADED, figures=figures
    )
    found.components.add(name="source:his", health=agent_pb2.HEALTH_DOWN, detail="no answer")
    found.outbox_pending, found.unknown_outcomes = 7, 2
    return found


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_every_figure_has_a_place() -> None:
    figures = Figures()
    figures.call_ended("CatalogService.ListSlots", 0.02)
    figures.call_ended("CatalogService.ListSlots", 0.7, "HIS_BUSY")
    figures.call_ended("PaymentService.RefundPayment", 99.0)
    figures.put("breaker_slow:his", 2)
    figures.add("reads_coalesced", 5)
    figures.add("something_new:x", 3)
    found = samples(exposition(status(**figures.snapshot()), figures.histograms()))
    of = (("operation", "CatalogService.ListSlots"),)
    assert found["his160_call_seconds_count", of] == 2
    assert found["his160_call_seconds_sum", of] == pytest.approx(0.72)
    assert found["his160_call_seconds_bucket", (("le", "0.025"), *of)] == 1
    slow = (("le", "30.0"), ("operation", "PaymentService.RefundPayment"))
    assert found["his160_call_seconds_bucket", slow] == 0
    assert found["his160_call_seconds_bucket", (("le", "+Inf"), slow[1])] == 1
    assert found["his160_refusals_total", (("of", "HIS_BUSY"),)] == 1
    assert found["his160_breaker_slow", (("source", "his"),)] == 2
    assert found["his160_reads_coalesced_total", ()] == 5
    assert found["his160_figure", (("name", "something_new:x"),)] == 3
    assert found["his160_health", (("part", "source:his"),)] == agent_pb2.HEALTH_DOWN
    assert (found["his160_outbox_pending", ()], found["his160_unknown_outcomes", ()]) == (7, 2)


def test_refunds_that_wait_for_a_person_have_a_gauge() -> None:
    found = samples(exposition(status(**{"refunds:ABNORMAL": 2.0, "refunds:PROCESSING": 0.0}), {}))
    assert found["his160_refunds", (("state", "ABNORMAL"),)] == 2
    assert found["his160_refunds", (("state", "PROCESSING"),)] == 0


def test_a_label_cannot_break_the_text() -> None:
    found = samples(exposition(status(**{'job_runs:a"b\nc\\d': 1}), {}))
    assert found["his160_job_runs_total", (("job", 'a"b\nc\\d'),)] == 1


async def test_the_listener_answers_both_and_tells_a_load_balancer_when_it_is_down() -> None:
    now = status()

    async def snapshot() -> agent_pb2.GetStatusResponse:
        return now

    border = MetricsBorder(HttpPlace("127.0.0.1", 0), snapshot, Figures())
    await border.start()

    def get(path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", border.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    try:
        code, body = await run_in_threadpool(get, "/healthz")
        assert (code, json.loads(body)) == (200, {"health": "degraded", "parts": {"source:his": "down"}})
        now.health = agent_pb2.HEALTH_DOWN
        assert (await run_in_threadpool(get, "/healthz"))[0] == 503
        code, body = await run_in_threadpool(get, "/metrics")
        assert code == 200
        assert samples(body)["his160_health", (("part", ""),)] == agent_pb2.HEALTH_DOWN
        assert (await run_in_threadpool(get, "/"))[0] == 404
    finally:
        await border.stop(timedelta(seconds=1))


def test_top_shows_what_rises() -> None:
    before = {"calls": 10.0, "queued:his.read": 3.0, "seconds:X": 1.0}
    now = {"calls": 30.0, "queued:his.read": 1.0, "seconds:X": 9.0, "refusals": 2.0}
    assert rates_of(before, now, 2.0) == {"calls": 10.0, "refusals": 1.0}
    assert rates_of(before, now, 0.0) == {}
