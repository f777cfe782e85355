"""Every refusal of the contract that a HIS can give, on every pack: the sample HIS is brought into the situation by its own
programs and tables, and the real mapping is called (`reasons.py` has the list)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from his160.v1 import reason_pb2

from his_db import contract
from his_db.errors import HisRefused, MappingMismatch
from tests.conformance.packs import situations_of_money, situations_of_orders
from tests.conformance.packs.hospital import Hospital
from tests.conformance.packs.reasons import ELSEWHERE, NOT_HERE, PACKS, SITUATIONS
from tests.conformance.packs.situations_of_orders import GONE, OPERATOR, STOPPED
from tests.conformance.packs.tables import TABLES, pass_time, rules_back, run

ACTS = {**situations_of_orders.ACTS, **situations_of_money.ACTS}


@pytest.fixture
def as_it_was(hospital: Hospital) -> Iterator[None]:
    """Rules, clocks and sessions of the HIS after a situation are those of before."""
    yield
    while GONE:
        run(hospital, TABLES[hospital.name].back, order=GONE.pop())
    while STOPPED:
        hospital.window.resume_schedule(STOPPED.pop(), operator=OPERATOR)
    rules_back(hospital)
    if TABLES[hospital.name].days:
        pass_time(hospital)


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.usefixtures("as_it_was")
async def test_reason(hospital: Hospital, situation: str) -> None:
    """The reason of the table; where the table says that the vendor cannot have it, anything but that reason."""
    wanted = SITUATIONS[situation][1]
    try:
        await ACTS[situation](hospital)
    except HisRefused as error:
        found = reason_pb2.Reason.Name(error.reason).removeprefix("REASON_")
    except MappingMismatch:
        found = "MAPPING_MISMATCH"
    except NotImplementedError:
        found = "the vendor has no such thing"
    else:
        found = "done"
    if (hospital.name, situation) in NOT_HERE:
        assert found != wanted, "it is to be had after all: take it out of NOT_HERE"
    else:
        assert found == wanted


def test_every_reason_has_a_situation_or_another_place() -> None:
    assert set(ACTS) == set(SITUATIONS)
    given = {reason for _, reason in SITUATIONS.values()}
    every = set(contract.enum_numbers(reason_pb2.Reason.DESCRIPTOR)) | {"UNSPECIFIED"}
    assert given | set(ELSEWHERE) == every
    assert not given & set(ELSEWHERE)
    for pack, situation in NOT_HERE:
        assert pack in PACKS
        assert situation in SITUATIONS
