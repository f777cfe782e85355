"""Amounts of 医保 add up, or are refused (facts 2.2)."""

from __future__ import annotations

from typing import Any

import pytest
from his160.site.v1.insurance_gateway_pb2 import SettlementAmounts, SettlementRecord
from his160.v1.insurance_pb2 import InsuranceSplit
from hypothesis import given
from hypothesis import strategies as st

from sync.insurance_split import amounts_fault, is_counter_entry, record_fault, split_fault

PARTS = st.integers(min_value=0, max_value=10**9)


def record(*, family: int = 100, apart: bool = False, **changes: int) -> SettlementRecord:
    """A settlement that adds up: fund 1500 (in three funds), account 400, cash 600, hospital 50."""
    beside = family if apart else 0
    values: dict[str, int] = {
        "hifp_pay_fen": 1000,
        "cvlserv_pay_fen": 300,
        "maf_pay_fen": 200,
        "fund_pay_sumamt_fen": 1500,
        "acct_pay_fen": 400,
        "acct_mulaid_pay_fen": family,
        "psn_cash_pay_fen": 600,
        "psn_part_amt_fen": 1000 + beside,
        "hosp_part_amt_fen": 50,
        "medfee_sumamt_fen": 2550 + beside,
    }
    values.update(changes)
    amounts = SettlementAmounts(**values)  # type: ignore[arg-type]
    split = InsuranceSplit(
        total_fen=amounts.medfee_sumamt_fen,
        fund_fen=amounts.fund_pay_sumamt_fen,
        account_fen=amounts.acct_pay_fen,
        family_account_fen=family,
        cash_fen=amounts.psn_cash_pay_fen,
        hospital_fen=amounts.hosp_part_amt_fen,
    )
    return SettlementRecord(split=split, amounts=amounts)


def test_what_adds_up() -> None:
    assert record_fault(record(), family_apart=False) == ""
    assert record_fault(record(apart=True), family_apart=True) == ""
    assert record_fault(record(apart=True), family_apart=False) != ""
    assert record_fault(record(), family_apart=True) != ""
    assert record_fault(record(family=0), family_apart=True) == ""


@pytest.mark.parametrize("field", [field.name for field in SettlementAmounts.DESCRIPTOR.fields])
def test_one_fen_more_in_any_part(field: str) -> None:
    """What has no part in the sums (先行自付, 余额 …) may be anything; everything else may not."""
    free = {
        "fulamt_ownpay_amt_fen",
        "overlmt_selfpay_fen",
        "preselfpay_amt_fen",
        "inscp_scp_amt_fen",
        "act_pay_dedc_fen",
    }
    free.add("balc_fen")
    wrong = record()
    setattr(wrong.amounts, field, getattr(wrong.amounts, field) + 1)
    assert (record_fault(wrong, family_apart=False) == "") == (field in free)


@given(*[PARTS] * 5, st.booleans())
def test_the_rule_of_the_contract(fund: int, account: int, family: int, cash: int, hospital: int, apart: bool) -> None:
    total = fund + account + cash + hospital + (family if apart else 0)
    parts: dict[str, Any] = {
        "fund_fen": fund,
        "account_fen": account,
        "family_account_fen": family,
        "cash_fen": cash,
        "hospital_fen": hospital,
    }
    fault = split_fault(InsuranceSplit(total_fen=total, **parts), family_apart=apart)
    assert (fault == "") == (apart or family <= account)
    assert split_fault(InsuranceSplit(total_fen=total + 1, **parts), family_apart=apart) != ""


def test_a_negative_part_is_never_right() -> None:
    assert split_fault(InsuranceSplit(total_fen=0, fund_fen=5, cash_fen=-5), family_apart=False) != ""


def test_2208_takes_back_what_2207_took() -> None:
    positive, negative = record(), record()
    for message in (negative.split, negative.amounts):
        for field, value in message.ListFields():
            setattr(message, field.name, -value)
    assert amounts_fault(negative.amounts, family_apart=False) == ""
    assert is_counter_entry(negative, positive)
    negative.amounts.balc_fen = 77  # the balance afterwards is no part of it
    assert is_counter_entry(negative, positive)
    negative.amounts.acct_pay_fen += 1
    assert not is_counter_entry(negative, positive)
