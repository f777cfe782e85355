"""setlinfo of 2206A, 2207A, 2208 and 5203 -> SettlementRecord, its sums checked to the 分.

Rules (facts 2.2): the fund is the sum of its parts; what the person bears is account and cash; the total is fund,
person and hospital. Provinces differ: `fund_parts` names the parts, `family_account` says whether acct_mulaid_pay is a
part of acct_pay, `sums` which rules hold at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from his160.site.v1 import insurance_gateway_pb2 as pb
from his160.v1 import insurance_pb2

from his_db.insurance.envelope import MOMENT
from his_db.reply_fields import Fields

FUND_PARTS: Final = ("hifp_pay", "cvlserv_pay", "hifes_pay", "hifmi_pay", "hifob_pay", "maf_pay", "oth_pay")
SUMS: Final = ("fund", "person", "total")
_NEEDED: Final = frozenset({"medfee_sumamt", "fund_pay_sumamt", "acct_pay", "psn_cash_pay"})
_BALANCE: Final = "balc"


def settlement_of(
    info: Fields, options: Mapping[str, Any], zone: ZoneInfo, *, negative: bool | None
) -> pb.SettlementRecord:
    """The record. `negative`: whether this is a counter-entry of 2208; None: either may be.

    Raises MappingMismatch for a missing amount, one of another sign, more than two decimals, or sums that do not hold.
    """
    amounts = pb.SettlementAmounts()
    for field in pb.SettlementAmounts.DESCRIPTOR.fields:
        name = field.name.removesuffix("_fen")
        setattr(amounts, field.name, info.yuan(name, needed=name in _NEEDED))
    _check_signs(info, amounts, negative)
    if not info.has("psn_part_amt"):
        amounts.psn_part_amt_fen = amounts.acct_pay_fen + amounts.psn_cash_pay_fen + _beside(amounts, options)
    _check_sums(info, amounts, options)
    return pb.SettlementRecord(
        person_no=info.text("psn_no"),
        insutype=info.text("insutype"),
        insured_area=info.text("insuplc_admdvs"),
        mdtrt_id=info.text("mdtrt_id"),
        setl_id=info.text("setl_id"),
        # 医药机构结算 ID: the platform keeps the msgid of the settlement there.
        settle_msgid=info.text("medins_setl_id"),
        settle_time=info.moment("setl_time", zone, MOMENT, "%Y-%m-%d %H:%M:%S.%f", "%Y%m%d%H%M%S"),
        clearing_type=info.text("clr_type"),
        clearing_way=info.text("clr_way"),
        clearing_office=info.text("clr_optins"),
        medical_type=info.text("med_type"),
        split=split_of(amounts),
        amounts=amounts,
    )


def split_of(amounts: pb.SettlementAmounts) -> insurance_pb2.InsuranceSplit:
    """Who pays which part."""
    return insurance_pb2.InsuranceSplit(
        total_fen=amounts.medfee_sumamt_fen,
        fund_fen=amounts.fund_pay_sumamt_fen,
        account_fen=amounts.acct_pay_fen,
        family_account_fen=amounts.acct_mulaid_pay_fen,
        cash_fen=amounts.psn_cash_pay_fen,
        hospital_fen=amounts.hosp_part_amt_fen,
    )


def _check_signs(info: Fields, amounts: pb.SettlementAmounts, negative: bool | None) -> None:
    """All amounts of a settlement have one sign; the balance of the account has its own."""
    if negative is None:
        negative = amounts.medfee_sumamt_fen < 0
    for field in amounts.DESCRIPTOR.fields:
        name = field.name.removesuffix("_fen")
        value = getattr(amounts, field.name)
        if name != _BALANCE and value and (value < 0) is not negative:
            raise info.wrong(name, "has the wrong sign")


def _beside(amounts: pb.SettlementAmounts, options: Mapping[str, Any]) -> int:
    return amounts.acct_mulaid_pay_fen if options["family_account"] == "beside" else 0


def _check_sums(info: Fields, amounts: pb.SettlementAmounts, options: Mapping[str, Any]) -> None:
    checked = options["sums"]
    parts = sum(info.yuan(name) for name in options["fund_parts"])
    if "fund" in checked and amounts.fund_pay_sumamt_fen != parts:
        raise info.wrong("fund_pay_sumamt", f"is not the sum of {', '.join(options['fund_parts'])}")
    person = amounts.acct_pay_fen + amounts.psn_cash_pay_fen + _beside(amounts, options)
    if "person" in checked and amounts.psn_part_amt_fen != person:
        raise info.wrong("psn_part_amt", "is not acct_pay and psn_cash_pay")
    total = amounts.fund_pay_sumamt_fen + amounts.psn_part_amt_fen + amounts.hosp_part_amt_fen
    if "total" in checked and amounts.medfee_sumamt_fen != total:
        raise info.wrong("medfee_sumamt", "is not fund_pay_sumamt, psn_part_amt and hosp_part_amt")
