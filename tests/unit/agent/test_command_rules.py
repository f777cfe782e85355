"""What the configuration and the mappings make of commands: abilities, rules, how long a write may be at work."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.rpc import error_details_pb2
from his160.v1 import reason_pb2

from agent.abilities import composed
from agent.command_rules import saga_rules, settle_times
from agent.config import load_settings
from agent.errors import to_status
from agent.handlers.agent_service import available_operations
from his_db.contract import mappable_names, operation_names
from his_db.errors import HisRefused
from his_db.generation import Capability
from sync.registry import load_sagas
from sync.saga import is_possible
from sync.saga_context import SagaRules

INSTITUTION = SagaRules(institution="H44030000001")
CONFIG = """
[site]
code = "szh01"
[source.his]
engine = "postgresql"
database = "his"
host = "127.0.0.1"
user = "u"
statement_timeout = "10s"
lock_timeout = "3s"
[source.yb]
engine = "http"
database = "http://127.0.0.1:9/"
statement_timeout = "20s"
[source.yb.lanes.write]
workers = 1
queue_limit = 5
statement_timeout = "40s"
[mapping]
path = "mappings"
[server]
enabled = true
insecure = true
[delivery]
sink = "pull"
"""


@dataclass(frozen=True)
class Mapped:
    """A generation that maps these operations."""

    names: Collection[str]
    revision: str = "r1"

    def maps(self, name: str) -> bool:
        return name in self.names

    def capabilities(self) -> tuple[Capability, ...]:
        return tuple(Capability(name, name in self.names, "本院未开通") for name in operation_names())


def settings(folder: Path, *, more: str = "") -> Any:
    file = folder / "config.toml"
    file.write_text(CONFIG + more, encoding="utf-8")
    return load_settings(file, {}, require_files=False)


def available(mapped: Mapped, rules: SagaRules, off: Collection[str] = ()) -> set[str]:
    found = composed(mapped, mapped.maps, rules, switched_off=lambda name: "检修" if name in off else None)
    return set(available_operations(found))


@pytest.mark.parametrize("name", sorted(load_sagas()))
def test_an_operation_is_available_when_its_saga_can_run(name: str) -> None:
    """Exactly then: with one of its needs missing it is not."""
    saga = load_sagas()[name]
    if saga.is_own or not saga.is_substitute:
        return
    whole = Mapped(saga.needs)
    assert saga.operation in available(whole, INSTITUTION)
    assert saga.operation not in available(whole, INSTITUTION, off=[saga.operation])
    for need in saga.needs:
        assert saga.operation not in available(Mapped(saga.needs - {need}), INSTITUTION), need


def test_settlements_need_the_institution() -> None:
    needs = load_sagas()["settle_insurance"].needs
    assert "InsuranceService.SettleInsurance" not in available(Mapped(needs), SagaRules())
    assert not is_possible(load_sagas()["settle_insurance"], Mapped(needs).maps, SagaRules())


def test_what_is_not_mapped_says_why_and_what_is_mapped_is_left_alone() -> None:
    found = composed(
        Mapped(["PaymentService.CreatePayment"]), lambda name: name == "PaymentService.CreatePayment", INSTITUTION
    )
    by_name = {item.operation: item for item in found.capabilities()}
    assert by_name["PaymentService.CreatePayment"].available
    assert by_name["InsuranceService.SettleInsurance"] == Capability(
        "InsuranceService.SettleInsurance", False, "本院未开通"
    )
    everything = composed(Mapped(mappable_names()), lambda name: True, INSTITUTION)
    assert {item.operation for item in everything.capabilities() if item.available} >= {"PaymentService.GetRefund"}


def test_rules_of_the_configuration(tmp_path: Path) -> None:
    rules = saga_rules(settings(tmp_path))
    assert (rules.site, rules.institution, rules.family_apart, rules.medical_type) == ("szh01", "", False, "12")
    assert rules.payment_window == timedelta(minutes=15)
    more = '[insurance]\ninstitution = "H44030000001"\nfamily_account = "apart"\n[payment]\npatience = "5m"\n'
    rules = saga_rules(settings(tmp_path, more=more))
    assert (rules.institution, rules.family_apart) == ("H44030000001", True)
    assert rules.patience == timedelta(minutes=5)


def test_a_write_may_be_at_work_for_as_long_as_its_own_limits_say(tmp_path: Path) -> None:
    """A mapping's own longer timeout counts; another source's does not; what is not mapped gets the longest."""
    operations = {
        "A.Short": SimpleNamespace(source="his", timeout=timedelta(seconds=1)),
        "A.Usual": SimpleNamespace(source="his", timeout=None),
        "A.Long": SimpleNamespace(source="his", timeout=timedelta(seconds=60)),
        "B.Usual": SimpleNamespace(source="yb", timeout=None),
    }
    generation: Any = SimpleNamespace(operations=operations)
    settle = settle_times(settings(tmp_path), lambda: generation)
    assert settle("A.Short") == settle("A.Usual") == timedelta(seconds=10 + 3 + 2)
    assert settle("A.Long") == timedelta(seconds=60 + 3 + 2)
    assert settle("B.Usual") == timedelta(seconds=40 + 3 + 2)
    assert settle("C.Gone") == timedelta(seconds=40 + 3 + 2)


def test_a_refund_number_reaches_the_caller() -> None:
    error = HisRefused(reason_pb2.REASON_SCHEDULE_SUSPENDED, "stopped")
    error.metadata = {"out_refund_no": "W1-AUTO", "refund_fen": "2500", "refund_state": "PROCESSING"}
    info = error_details_pb2.ErrorInfo()
    assert to_status(error, operation="PaymentService.ConfirmPayment").details[0].Unpack(info)
    assert info.reason == "SCHEDULE_SUSPENDED"
    assert dict(info.metadata) == {"operation": "PaymentService.ConfirmPayment", **error.metadata}
