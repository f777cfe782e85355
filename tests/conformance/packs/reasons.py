"""Situation × pack: which refusals a HIS can give, what is not to be had from a vendor and why, and the table of a run."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from his_db.registry import LIVE_SAMPLES, SAMPLES

# Situation -> (what it is, the reason it must have). The acts are in situations_of_orders.py and situations_of_money.py.
SITUATIONS: Mapping[str, tuple[str, str]] = {
    "no_session": ("排班不存在或已停用", "SCHEDULE_NOT_FOUND"),
    "no_slot": ("没有这个号", "SLOT_NOT_FOUND"),
    "stopped_lock": ("停诊后锁号", "SCHEDULE_SUSPENDED"),
    "stopped_book": ("停诊后预约", "SCHEDULE_SUSPENDED"),
    "stopped_pay": ("医生已停诊，无法完成支付", "SCHEDULE_SUSPENDED"),
    "past_session": ("排班已过期", "SCHEDULE_EXPIRED"),
    "held_by_other": ("号被别的订单锁着", "SLOT_TAKEN"),
    "booked_by_other": ("号已被占用", "SLOT_TAKEN"),
    "none_left": ("已无可预约号", "NO_SLOT_LEFT"),
    "hold_ran_out": ("锁号已失效", "LOCK_EXPIRED"),
    "no_patient": ("未建档", "PATIENT_NOT_FOUND"),
    "other_name": ("证件号与姓名不一致", "PATIENT_NAME_MISMATCH"),
    "no_show": ("爽约锁定", "PATIENT_BLOCKED"),
    "arrears": ("欠费", "PATIENT_IN_ARREARS"),
    "same_session": ("同一排班重复预约", "DUPLICATE_APPOINTMENT"),
    "same_day": ("同科同日重复预约", "DUPLICATE_APPOINTMENT"),
    "order_no_used": ("预约单号已被使用", "DUPLICATE_APPOINTMENT"),
    "order_no_long": ("预约单号超长", "INVALID_REQUEST"),
    "lock_no_used": ("锁号：单号已用于别的排班", "DUPLICATE_APPOINTMENT"),
    "lock_cancelled": ("锁号：单号已取消", "ALREADY_CANCELLED"),
    "book_cancelled": ("预约：单号已取消", "ALREADY_CANCELLED"),
    "book_no_session": ("预约：排班不存在", "SCHEDULE_NOT_FOUND"),
    "book_no_slot": ("预约：没有这个号", "SLOT_NOT_FOUND"),
    "book_past": ("预约：排班已过期", "SCHEDULE_EXPIRED"),
    "patient_blank": ("建档：姓名为空", "INVALID_REQUEST"),
    "no_order": ("未找到预约", "APPOINTMENT_NOT_FOUND"),
    "cancel_nothing": ("取消：未找到预约", "APPOINTMENT_NOT_FOUND"),
    "cancel_cancelled": ("窗口已取消，勿重复", "ALREADY_CANCELLED"),
    "cancel_paid": ("已挂号须走退号", "ALREADY_PAID"),
    "cancel_taken": ("取消：已取号", "ALREADY_CHECKED_IN"),
    "cancel_seen": ("取消：已就诊", "ALREADY_VISITED"),
    "cancel_late": ("过了就诊日期", "CANCEL_TOO_LATE"),
    "cancel_refunded": ("取消：该订单已退费", "ALREADY_REFUNDED"),
    "cancel_blank": ("预约单号不能为空", "INVALID_REQUEST"),
    "cancel_no_session": ("已无排班信息,无法恢复限额", "SCHEDULE_NOT_FOUND"),
    "unlock_booked": ("已转预约，不能解锁", "ILLEGAL_TRANSITION"),
    "pay_nothing": ("支付：未找到预约", "APPOINTMENT_NOT_FOUND"),
    "pay_cancelled": ("支付：已取消", "ALREADY_CANCELLED"),
    "pay_amount": ("结算金额与支付金额不符", "AMOUNT_MISMATCH"),
    "pay_twice": ("已支付，勿重复", "ALREADY_PAID"),
    "pay_number_used": ("支付流水号已被其他订单使用", "PAYMENT_NUMBER_REUSED"),
    "pay_no_number": ("交易金额大于0时交易流水号必传", "INVALID_REQUEST"),
    "pay_refunded": ("支付：该订单已退费", "ALREADY_REFUNDED"),
    "pay_no_session": ("支付：排班没有了", "SCHEDULE_NOT_FOUND"),
    "no_payment": ("没有这笔支付", "PAYMENT_NOT_FOUND"),
    "refund_nothing": ("退费：未找到预约", "APPOINTMENT_NOT_FOUND"),
    "refund_cancelled": ("退费：已取消", "ALREADY_CANCELLED"),
    "refund_no_session": ("退费：已无排班信息", "SCHEDULE_NOT_FOUND"),
    "refund_unpaid": ("未缴费不能退号", "NOT_PAID"),
    "refund_twice": ("已退费", "ALREADY_REFUNDED"),
    "refund_part": ("不支持部分退费", "PARTIAL_REFUND_REFUSED"),
    "refund_more": ("退费金额大于支付金额", "AMOUNT_MISMATCH"),
    "refund_closed": ("已日结", "DAY_CLOSED"),
    "refund_insured": ("医保已结算", "INSURANCE_SETTLED"),
    "refund_prescribed": ("存在处方", "DEPENDENT_DOCUMENTS"),
    "refund_invoiced": ("已打印发票", "DEPENDENT_DOCUMENTS"),
    "refund_taken": ("已取号", "ALREADY_CHECKED_IN"),
    "refund_seen": ("已就诊", "ALREADY_VISITED"),
    "refund_number_used": ("退款单号已被其他订单使用", "PAYMENT_NUMBER_REUSED"),
    "refund_other_pay": ("退费：支付单号不对", "PAYMENT_NOT_FOUND"),
    "no_refund": ("没有这笔退款", "REFUND_NOT_FOUND"),
    "check_nothing": ("预检查：未找到预约", "APPOINTMENT_NOT_FOUND"),
    "check_unpaid": ("预检查：未缴费", "NOT_PAID"),
    "check_cancelled": ("预检查：已取消", "ALREADY_CANCELLED"),
    "check_twice": ("预检查：已退费", "ALREADY_REFUNDED"),
    "check_part": ("预检查：部分退费", "PARTIAL_REFUND_REFUSED"),
    "check_more": ("预检查：多退", "AMOUNT_MISMATCH"),
    "check_other_pay": ("预检查：支付单号不对", "PAYMENT_NOT_FOUND"),
    "check_closed": ("预检查：已日结", "DAY_CLOSED"),
    "check_prescribed": ("预检查：存在处方", "DEPENDENT_DOCUMENTS"),
    "check_invoiced": ("预检查：已打印发票", "DEPENDENT_DOCUMENTS"),
    "check_taken": ("预检查：已取号", "ALREADY_CHECKED_IN"),
    "check_no_session": ("预检查：已无排班信息", "SCHEDULE_NOT_FOUND"),
    "check_seen": ("预检查：已就诊", "ALREADY_VISITED"),
    "check_insured_closed": ("预检查：医保号已日结", "DAY_CLOSED"),
    "check_insured_prescribed": ("预检查：医保号存在处方", "DEPENDENT_DOCUMENTS"),
    "check_insured_taken": ("预检查：医保号已取号", "ALREADY_CHECKED_IN"),
    "check_insured_twice": ("预检查：医保号已退", "ALREADY_REFUNDED"),
    "no_visitor": ("不是该账号的就诊人", "PATIENT_NOT_FOUND"),
    "insured_nothing": ("医保挂号：未找到预约", "APPOINTMENT_NOT_FOUND"),
    "insured_cancelled": ("医保挂号：已取消", "ALREADY_CANCELLED"),
    "insured_stopped": ("医保挂号：停诊", "SCHEDULE_SUSPENDED"),
    "insured_total": ("医保总额与挂号费不符", "AMOUNT_MISMATCH"),
    "insured_sum": ("医保各部分之和不等于总额", "AMOUNT_MISMATCH"),
    "insured_no_cash_no": ("有现金部分却无支付单号", "INVALID_REQUEST"),
    "insured_twice": ("医保挂号：已挂号", "ALREADY_PAID"),
    "insured_setl_used": ("医保结算号已被使用", "PAYMENT_NUMBER_REUSED"),
    "insured_refunded": ("医保挂号：已退费", "ALREADY_REFUNDED"),
    "insured_no_session": ("医保挂号：排班没有了", "SCHEDULE_NOT_FOUND"),
    "insured_none": ("没有医保结算", "APPOINTMENT_NOT_FOUND"),
    "red_nothing": ("医保红冲：没有这次结算", "APPOINTMENT_NOT_FOUND"),
    "red_twice": ("医保红冲：已冲", "ALREADY_REFUNDED"),
    "red_cash": ("医保红冲：现金不符", "AMOUNT_MISMATCH"),
    "red_unpaid": ("医保红冲：未缴费", "NOT_PAID"),
    "red_cancelled": ("医保红冲：已取消", "ALREADY_CANCELLED"),
    "red_number_used": ("医保红冲：退款单号已被使用", "PAYMENT_NUMBER_REUSED"),
    "red_seen": ("医保红冲：已就诊", "ALREADY_VISITED"),
    "red_prescribed": ("医保红冲：存在处方", "DEPENDENT_DOCUMENTS"),
}

# (pack, situation) -> why this vendor cannot have it.
_COUNTER = "只有余数，没有一个一个的号；约满答 NO_SLOT_LEFT"
_PAID_FIRST = "只有已缴费的号才能取号、就诊，取消时先答 ALREADY_PAID"
_SLOT_IS_SESSION = "号源就是排班：没有这个号就是没有这个排班"
_ROW_STAYS = "排班行从不删除，只改标志"
_PAID_BEFORE = "退了费的单也是付过的：答 ALREADY_PAID"
_NO_SETTLEMENT = "先按结算号找：没有这次结算"
_BORDER = "为空由代理的校验拒绝（REQUIRED），HIS 的语句自己不查"
_GONE_ROW = dict.fromkeys(
    ("cancel_no_session", "pay_no_session", "refund_no_session", "check_no_session", "insured_no_session"), _ROW_STAYS
)
_WINNING = {
    **_GONE_ROW,
    "book_no_slot": _SLOT_IS_SESSION,
    "cancel_refunded": "退了费的单也是挂过号的：答 ALREADY_PAID",
    "pay_refunded": _PAID_BEFORE,
    "insured_refunded": _PAID_BEFORE,
    "no_slot": _SLOT_IS_SESSION,
    "held_by_other": _COUNTER,
    "booked_by_other": _COUNTER,
    "order_no_long": "wbddh 有 64 位，订单号最长 64 位",
    "cancel_taken": _PAID_FIRST,
    "cancel_seen": _PAID_FIRST,
    "refund_more": "金额不等一律答“不支持部分退费”",
    "check_more": "金额不等一律答“不支持部分退费”",
    "refund_invoiced": "平台的收据不打印发票，系统不记",
    "check_invoiced": "平台的收据不打印发票，系统不记",
}
_NEUSOFT = {
    "book_no_slot": _SLOT_IS_SESSION,
    "pay_no_session": "排班行没有了，与停诊同样答：不能支付",
    "insured_no_session": "排班行没有了，与停诊同样答：不能支付",
    "no_slot": _SLOT_IS_SESSION,
    "held_by_other": _COUNTER,
    "booked_by_other": _COUNTER,
    "order_no_long": "ORDER_ID 有 64 位，订单号最长 64 位",
    "cancel_seen": "只有已取号的号才能看诊，取消时先答 ALREADY_CHECKED_IN",
    "refund_more": "金额不等一律答“必须全退”",
    "check_more": "金额不等一律答“必须全退”",
    "refund_invoiced": "网上发票（W…）只有号，系统不记是否打印",
    "check_invoiced": "网上发票（W…）只有号，系统不记是否打印",
    "no_visitor": "就诊人在微信平台，HIS 没有这张表",
}
_VENDORS: Mapping[str, Mapping[str, str]] = {
    "zebone": {
        **_GONE_ROW,
        "lock_cancelled": "取消过的单号可以再锁",
        "book_cancelled": "取消过的单号不能再约：答 DUPLICATE_APPOINTMENT",
        "patient_blank": _BORDER,
        "cancel_blank": _BORDER,
        "pay_no_number": _BORDER,
        "cancel_refunded": "退了费的单是已取消的：答 ALREADY_CANCELLED",
        "pay_refunded": "退了费的单是已取消的：答 ALREADY_CANCELLED",
        "insured_refunded": "退了费的单是已取消的：答 ALREADY_CANCELLED",
        "refund_cancelled": "没付过钱：答没有这笔支付",
        "red_cancelled": _NO_SETTLEMENT,
        "cancel_taken": _PAID_FIRST,
        "unlock_booked": "已预约的号没有锁：解锁无事可做，算成功",
        "order_no_long": "ORDERID_EXT 有 64 位，订单号最长 64 位",
    },
    "winning": _WINNING,
    "winning_mssql": _WINNING,
    "neusoft": _NEUSOFT,
    "neusoft_oracle": _NEUSOFT,
    "bsoft": {
        "lock_cancelled": "取消过的单号不能再锁：答 DUPLICATE_APPOINTMENT",
        "book_cancelled": "取消过的单号不能再约：答 DUPLICATE_APPOINTMENT",
        "cancel_blank": _BORDER,
        "pay_no_number": _BORDER,
        "cancel_no_session": "排班行没有了也能取消：限额无处可还",
        "refund_no_session": "排班行没有了也能退号：限额无处可还",
        "check_no_session": "排班行没有了也能退号：限额无处可还",
        "cancel_refunded": "退了费的单也是挂过号的：答 ALREADY_PAID",
        "pay_refunded": _PAID_BEFORE,
        "insured_refunded": _PAID_BEFORE,
        "refund_cancelled": "没付过钱：答没有这笔支付",
        "red_cancelled": _NO_SETTLEMENT,
        "held_by_other": _COUNTER,
        "booked_by_other": _COUNTER,
        "cancel_taken": _PAID_FIRST,
        "cancel_seen": _PAID_FIRST,
        "unlock_booked": "已预约的号没有锁：解锁无事可做，算成功",
        "refund_invoiced": "FPHM 是收据号，系统不记是否打印",
        "check_invoiced": "FPHM 是收据号，系统不记是否打印",
        "no_visitor": "就诊人在微信平台，HIS 没有这张表",
    },
}
NOT_HERE: Mapping[tuple[str, str], str] = {
    (pack, situation): why for pack, found in _VENDORS.items() for situation, why in found.items()
}

# Reasons that no pack gives, and who does.
ELSEWHERE: Mapping[str, str] = {
    "UNSPECIFIED": "never sent",
    "OPERATION_NOT_MAPPED": "kind unsupported: test_pack_catalog.py",
    "MAPPING_MISMATCH": "answers that do not fit: [[test]] of each file",
    "HIS_UNAVAILABLE": "the engines' own suites",
    "HIS_BUSY": "the engines' own suites; guards of the steps packs: [[test]]",
    "HIS_REFUSED": "a sentence that no rule knows: [[test]] of each call",
    "OUTCOME_UNKNOWN": "the engines' own suites",
    "ANSWER_TOO_LARGE": "test_row_limit.py",
    "REQUEST_ID_REUSED": "the agent's ledger",
    "ORDER_BUSY": "the agent's ledger",
    "OVERLOADED": "the agent's lanes",
    "SWITCHED_OFF": "the agent's switches",
    "NOT_AUTHORIZED": "the agent's borders",
    "SITE_NOT_ATTACHED": "the relay",
    "DEADLINE_EXCEEDED": "the agent's borders",
    "INTERNAL": "the agent's borders",
    "DEPARTMENT_NOT_FOUND": "no command names a department; lists of an unknown one are empty",
    "INSURANCE_REFUSED": "the 医保 gateway",
    "REPORT_NOT_FOUND": "the agent's reports",
}
PACKS = (*sorted(SAMPLES), *sorted(LIVE_SAMPLES))
_NODE = re.compile(r"test_pack_reasons\.py::test_reason\[(\w+)-(\w+)\]")


def print_reasons(reporter: Any) -> None:
    """The table, when a run has met the suite."""
    seen: dict[tuple[str, str], str] = defaultdict(str)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in reporter.stats.get(outcome, ()):
            if found := _NODE.search(getattr(report, "nodeid", "")):
                pack, situation = sorted(found.groups(), key=lambda name: name not in PACKS)
                seen[situation, pack] = {"passed": "yes", "skipped": ""}.get(outcome, "FAILED")
    if not seen:
        return
    write = reporter.write_line
    reporter.section("refusals × packs")
    write(" " * 48 + " ".join(f"{pack:>14}" for pack in PACKS))
    for situation, (text, reason) in SITUATIONS.items():
        cells = []
        for pack in PACKS:
            found = seen[situation, pack]
            if (pack, situation) in NOT_HERE and found != "FAILED":
                found = "-"
            cells.append(f"{found or ('opt-in' if pack in LIVE_SAMPLES else 'not run'):>14}")
        write(f"{situation:<25}{reason:<23}" + " ".join(cells) + f"  {text}")
    for (pack, situation), why in NOT_HERE.items():
        write(f"  -: {pack}, {situation}: {why}")
