"""Any history that Hypothesis thinks of, on the tables of a real sample HIS, with real gateways: the books agree at its end.

Three patients at once, two of them on one number; windows that cancel, stop and resume; holds that run out, clocks that move;
connections that break at COMMIT, gateways that do the work and are not heard, an agent that dies. Judged by the invariants of
``make chaos``, from the books alone. The long form (`make soak`) plays new histories, and on PostgreSQL, too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.chaos.real_hospital import RealHospital, real_hospital
from tests.chaos.real_play import BEGINNINGS, COMMANDS, FAULTS, HAPPENINGS, PATIENTS, Round, played

CHANCE = bool(os.environ.get("HIS160_CHANCE"))
pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(3600 if CHANCE else 240),
    pytest.mark.skipif(sys.platform == "win32", reason="the folder of a test that is in memory"),
]
ASKED = [f"{step} {who}" for step in COMMANDS for who in PATIENTS]
ROUND = st.builds(
    Round,
    st.lists(st.sampled_from(ASKED), min_size=1, max_size=4, unique=True).map(tuple),
    st.lists(st.sampled_from(["", *FAULTS]), max_size=4).map(lambda faults: tuple(filter(None, faults))),
    st.lists(st.sampled_from(HAPPENINGS), max_size=3).map(tuple),
)
BEGUN = st.tuples(*(st.sampled_from(sorted(BEGINNINGS)) for _ in PATIENTS))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"] if CHANCE else ["sqlite"])
def hospital(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHospital]:
    with real_hospital(request.param, tmp_path_factory.mktemp("hospital")) as made:
        yield made


@settings(
    max_examples=250 if CHANCE else 12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(BEGUN, st.lists(ROUND, max_size=6))
@example(
    ("booked", "booked", "cash paid"), [Round(("settle c",), ("commit unheard",), ("restart", "window cancels c"))]
)
@example(("paid", "nothing", "insured"), [Round(("confirm a", "reverse c"), ("dies after",), ("later", "sweep"))])
@example(("insured", "nothing", "paid"), [Round(("confirm a", "settle c"), ("wechat garbage_after",), ("sweep",))])
def test_any_history_on_a_real_his(hospital: RealHospital, beginnings: tuple[str, ...], rounds: list[Round]) -> None:
    _, findings = played(hospital, beginnings, rounds)
    assert [str(finding) for finding in findings] == []


def test_the_model_really_moves_money(hospital: RealHospital) -> None:
    """Each beginning comes to where it says, and two patients do not get one number."""
    scene, findings = played(hospital, ("registered", "booked", "insured"), [])
    assert findings == []
    assert scene.his_state("a") == "PAID"
    assert scene.his_state("c") == "PAID"
    refused = {said.answer.reason for said in scene.told if said.answer is not None and not said.answer.is_done}
    if hospital.engine == "sqlite":  # its slots are tickets: the second patient's was taken
        assert scene.his_state("b") == ""
        assert "SLOT_TAKEN" in refused
