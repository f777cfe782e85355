"""Whether the amounts of 医保 add up. What does not add up is refused or undone, never guessed (facts 2.2).

All amounts in 分. ``family_apart``: the province counts 个人账户共济 beside the personal account instead of in it.
"""

from __future__ import annotations

from his160.site.v1 import insurance_gateway_pb2
from his160.v1 import insurance_pb2


def split_fault(split: insurance_pb2.InsuranceSplit, *, family_apart: bool) -> str:
    """Which rule the split breaks; empty when it adds up. The rule of the contract's ``InsuranceSplit``."""
    parts = (split.fund_fen, split.account_fen, split.family_account_fen, split.cash_fen, split.hospital_fen)
    if any(part < 0 for part in (split.total_fen, *parts)):
        return "a part is negative"
    apart = split.family_account_fen if family_apart else 0
    if split.total_fen != split.fund_fen + split.account_fen + apart + split.cash_fen + split.hospital_fen:
        return "total is not fund + account + cash + hospital"
    if not family_apart and split.family_account_fen > split.account_fen:
        return "the family account is more than the account it is a part of"
    return ""


def amounts_fault(amounts: insurance_gateway_pb2.SettlementAmounts, *, family_apart: bool) -> str:
    """Which rule setlinfo breaks; empty when it adds up. Holds for the negative amounts of 2208 too."""
    funds = (
        amounts.hifp_pay_fen,
        amounts.cvlserv_pay_fen,
        amounts.hifes_pay_fen,
        amounts.hifmi_pay_fen,
        amounts.hifob_pay_fen,
        amounts.maf_pay_fen,
        amounts.oth_pay_fen,
    )
    apart = amounts.acct_mulaid_pay_fen if family_apart else 0
    personal = amounts.psn_part_amt_fen
    if amounts.fund_pay_sumamt_fen != sum(funds):
        return "fund_pay_sumamt is not the sum of the funds"
    if personal != amounts.acct_pay_fen + apart + amounts.psn_cash_pay_fen:
        return "psn_part_amt is not acct_pay + psn_cash_pay"
    if amounts.medfee_sumamt_fen != amounts.fund_pay_sumamt_fen + personal + amounts.hosp_part_amt_fen:
        return "medfee_sumamt is not fund_pay_sumamt + psn_part_amt + hosp_part_amt"
    return ""


def record_fault(record: insurance_gateway_pb2.SettlementRecord, *, family_apart: bool) -> str:
    """Which rule a settlement breaks: its split, its amounts where the site gives them, and that both say the same."""
    fault = split_fault(record.split, family_apart=family_apart)
    if fault or not record.HasField("amounts"):
        return fault
    fault = amounts_fault(record.amounts, family_apart=family_apart)
    return fault or ("" if _split_of(record.amounts) == record.split else "the split is not that of setlinfo")


def is_counter_entry(
    negative: insurance_gateway_pb2.SettlementRecord, positive: insurance_gateway_pb2.SettlementRecord
) -> bool:
    """Whether every amount of the one is that of the other with its sign turned (2208 against 2207)."""
    for mine, other in ((negative.split, positive.split), (negative.amounts, positive.amounts)):
        names = {field.name for message in (mine, other) for field, _ in message.ListFields()} - {"balc_fen"}
        if any(getattr(mine, name) != -getattr(other, name) for name in names):
            return False
    return True


def counter_entry(record: bytes) -> insurance_gateway_pb2.SettlementRecord:
    """What 2208 makes of a settlement, without the number that only 医保 can give. ``record``: serialised."""
    positive = insurance_gateway_pb2.SettlementRecord.FromString(record)
    negative = insurance_gateway_pb2.SettlementRecord(mdtrt_id=positive.mdtrt_id)
    for mine, other in ((negative.split, positive.split), (negative.amounts, positive.amounts)):
        for field, value in other.ListFields():
            if field.name != "balc_fen":
                setattr(mine, field.name, -value)
    return negative


def _split_of(amounts: insurance_gateway_pb2.SettlementAmounts) -> insurance_pb2.InsuranceSplit:
    return insurance_pb2.InsuranceSplit(
        total_fen=amounts.medfee_sumamt_fen,
        fund_fen=amounts.fund_pay_sumamt_fen,
        account_fen=amounts.acct_pay_fen,
        family_account_fen=amounts.acct_mulaid_pay_fen,
        cash_fen=amounts.psn_cash_pay_fen,
        hospital_fen=amounts.hosp_part_amt_fen,
    )
