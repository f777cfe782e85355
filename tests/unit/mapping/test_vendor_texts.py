"""What the interfaces of real HIS say when they refuse, word for word (domain facts 1.3, 1.3b, 1.6, 1.7): one outcome table of a DBA
for each, run through a compiled mapping. The first line whose text is a part of the sentence counts, so that their order is a part of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from his160.v1 import appointment_pb2, reason_pb2

from his_db.engine import ProcedurePlan, ProcedureResult
from his_db.errors import HisError, HisRefused
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set

NOW = datetime(2026, 3, 2, 9, 30)
CALL = """
schema = 1
operation = "AppointmentService.UnlockSlot"
source = "his"
kind = "procedure"
object = "dbo.usp_x"
commits = "caller"
params = [
  {{ name = "@ddh", from = "order_no", type = "varchar(64)" }},
  {{ name = "@flag", dir = "out", type = "varchar(8)" }},
  {{ name = "@msg", dir = "out", type = "nvarchar(200)" }},
]
[[result]]
fields = [ {{ to = "lock_id", column = "@ddh" }} ]
[outcome]
from = "@flag"
text = "@msg"
ok = ["{ok}"]
errors = [
{errors}]
otherwise = "HIS_REFUSED"
"""

# Vendor -> success and failure of its flag, (part of the sentence, reason), and what it really says.
VENDORS: Mapping[str, tuple[str, str, Mapping[str, str], Mapping[str, str]]] = {
    "众邦 平台 1.3": (
        "AA",
        "AE",
        {
            "不存在或已停用": "SCHEDULE_NOT_FOUND",
            "已无可预约号": "NO_SLOT_LEFT",
            "重复登记": "DUPLICATE_APPOINTMENT",
            "爽约两次锁定": "PATIENT_BLOCKED",
            "欠费": "PATIENT_IN_ARREARS",
            "单号不能为空": "INVALID_REQUEST",
            "未找到预约": "APPOINTMENT_NOT_FOUND",
            "已取消": "ALREADY_CANCELLED",
            "已经取消预约": "ALREADY_CANCELLED",
            "已挂号须走退号": "ALREADY_PAID",
            "请在挂号处退号": "ALREADY_PAID",
            "未缴费不能退号": "NOT_PAID",
            "已支付": "ALREADY_PAID",
            "已停诊": "SCHEDULE_SUSPENDED",
            "金额不符": "AMOUNT_MISMATCH",
            "不支持部分退费": "PARTIAL_REFUND_REFUSED",
            "已经就诊过了": "ALREADY_VISITED",
            "该时间不能取消预约": "CANCEL_TOO_LATE",
        },
        {
            "排班不存在或已停用": "SCHEDULE_NOT_FOUND",
            "已无可预约号": "NO_SLOT_LEFT",
            "重复登记": "DUPLICATE_APPOINTMENT",
            "爽约两次锁定(转窗口挂号)": "PATIENT_BLOCKED",
            "该患者欠费36.50元": "PATIENT_IN_ARREARS",
            "预约单号不能为空": "INVALID_REQUEST",
            "未找到预约": "APPOINTMENT_NOT_FOUND",
            "已取消勿重复": "ALREADY_CANCELLED",
            "已挂号须走退号": "ALREADY_PAID",
            "未缴费不能退号": "NOT_PAID",
            "已支付勿重复": "ALREADY_PAID",
            "医生已停诊无法完成支付": "SCHEDULE_SUSPENDED",
            "HIS结算金额与支付金额不符": "AMOUNT_MISMATCH",
            "支付总金额与结算金额不符": "AMOUNT_MISMATCH",
            "健康160支付订单不支持部分退费": "PARTIAL_REFUND_REFUSED",
            "请在挂号处退号！": "ALREADY_PAID",
            "该患者已经取消预约": "ALREADY_CANCELLED",
            "该患者已经就诊过了": "ALREADY_VISITED",
            "该时间不能取消预约": "CANCEL_TOO_LATE",
        },
    ),
    "众邦 JY160 1.3b": (
        "AA",
        "AE",
        {
            "无法取消预约登记": "ALREADY_PAID",
            "已就诊，无法取消": "ALREADY_VISITED",
            "已取消": "ALREADY_CANCELLED",
            "预约数据异常": "APPOINTMENT_NOT_FOUND",
            "未查询到该": "APPOINTMENT_NOT_FOUND",
            "未查找到该患者": "PATIENT_NOT_FOUND",
            "与姓名不一致": "PATIENT_NAME_MISMATCH",
            "已预约": "DUPLICATE_APPOINTMENT",
            "已存在预约记录": "DUPLICATE_APPOINTMENT",
            "已被占用": "SLOT_TAKEN",
            "已挂满": "NO_SLOT_LEFT",
            "已无可预约号": "NO_SLOT_LEFT",
            "不存在或已停用": "SCHEDULE_NOT_FOUND",
            "医生已停诊": "SCHEDULE_SUSPENDED",
            "已支付": "ALREADY_PAID",
            "与支付金额": "AMOUNT_MISMATCH",
        },
        {
            "已预约，已支付，请直接就诊！": "DUPLICATE_APPOINTMENT",
            "已预约，未支付，请缴费取号！": "DUPLICATE_APPOINTMENT",
            "已存在预约记录,请到窗口确认！": "DUPLICATE_APPOINTMENT",
            "您所选的挂号号码已被占用，请重试！": "SLOT_TAKEN",
            "您所选排班已挂满！": "NO_SLOT_LEFT",
            "您所选排班不存在或已停用！": "SCHEDULE_NOT_FOUND",
            "您所选排班已无可预约号！": "NO_SLOT_LEFT",
            "未查询到该预约号": "APPOINTMENT_NOT_FOUND",
            "已取消登记，请检查!!!": "ALREADY_CANCELLED",
            "未退费，无法取消预约登记": "ALREADY_PAID",
            "未查询到该患者成功的预约记录": "APPOINTMENT_NOT_FOUND",
            "预约数据异常,请到窗口确认！费用将3-5天自动退回": "APPOINTMENT_NOT_FOUND",
            "订单已支付,请勿重复推送": "ALREADY_PAID",
            "您所预约的医生已停诊，无法完成支付，请到窗口确认！": "SCHEDULE_SUSPENDED",
            "HIS结算金额【20】与支付金额【15】不符!": "AMOUNT_MISMATCH",
            "已取消就诊，请勿重复推送": "ALREADY_CANCELLED",
            "已就诊，无法取消登记退费": "ALREADY_VISITED",
            "患者证件号与姓名不一致：证件号": "PATIENT_NAME_MISMATCH",
            "未查找到该患者相关信息": "PATIENT_NOT_FOUND",
            "形成了两笔结算信息": "HIS_REFUSED",  # nobody but the window can say what that means
            "失败:… 或者到窗口核实!": "HIS_REFUSED",
        },
    ),
    "东软 窗口 1.6": (
        "0",
        "1",
        {
            "该订单已支付": "ALREADY_PAID",
            "该订单已取号": "ALREADY_CHECKED_IN",
            "该订单已退费": "ALREADY_REFUNDED",
            "就诊日期之前": "CANCEL_TOO_LATE",
            "已经看诊": "ALREADY_VISITED",
            "已无排班信息": "SCHEDULE_NOT_FOUND",
            "已经有交费记录": "INSURANCE_SETTLED",
            "必须全退": "PARTIAL_REFUND_REFUSED",
        },
        {
            "该订单已支付！": "ALREADY_PAID",
            "该订单已取号！": "ALREADY_CHECKED_IN",
            "该订单已退费！": "ALREADY_REFUNDED",
            "请在就诊日期之前取消预约！": "CANCEL_TOO_LATE",
            "该号已经看诊,不能作废": "ALREADY_VISITED",
            "已无排班信息,无法恢复限额": "SCHEDULE_NOT_FOUND",
            "该号为医疗保险号已经有交费记录,不能退费!": "INSURANCE_SETTLED",
            "退号的情况下，必须全退!": "PARTIAL_REFUND_REFUSED",
            "这条挂号记录为网上预约,你没有权利进行退号/废号": "HIS_REFUSED",
            "此窗口只能为网上预约退号": "HIS_REFUSED",
        },
    ),
    "新致 1.7": (
        "1",
        "0",
        {
            "不可约或已取消": "SCHEDULE_NOT_FOUND",
            "已无号源": "NO_SLOT_LEFT",
            "排班已过期": "SCHEDULE_EXPIRED",
            "在His中未登记": "PATIENT_NOT_FOUND",
            "卡信息异常": "PATIENT_NOT_FOUND",
            "已预约过该排班": "DUPLICATE_APPOINTMENT",
            "不可重复预约": "DUPLICATE_APPOINTMENT",
            "未找到待支付预约": "APPOINTMENT_NOT_FOUND",
            "费用与约定挂号费不一致": "AMOUNT_MISMATCH",
            "交易流水号必传": "INVALID_REQUEST",
            "已停诊或作废": "SCHEDULE_SUSPENDED",
            "未查询结算记录": "PAYMENT_NOT_FOUND",
            "存在已结处方": "DEPENDENT_DOCUMENTS",
            "可退金额为零": "ALREADY_REFUNDED",
            "请重试": "HIS_BUSY",
            "正在支付中": "HIS_BUSY",
        },
        {
            "排班信息不可约或已取消": "SCHEDULE_NOT_FOUND",
            "该排班已无号源": "NO_SLOT_LEFT",
            "排班已过期": "SCHEDULE_EXPIRED",
            "该卡号在His中未登记": "PATIENT_NOT_FOUND",
            "已预约过该排班": "DUPLICATE_APPOINTMENT",
            "同一科室相同门诊当天不可重复预约": "DUPLICATE_APPOINTMENT",
            "未找到待支付预约": "APPOINTMENT_NOT_FOUND",
            "卡信息异常": "PATIENT_NOT_FOUND",
            "支付费用与约定挂号费不一致": "AMOUNT_MISMATCH",
            "交易金额大于0时交易流水号必传": "INVALID_REQUEST",
            "该排班已停诊或作废": "SCHEDULE_SUSPENDED",
            "暂不支持该支付方式": "HIS_REFUSED",
            "该挂号渠道未授权": "HIS_REFUSED",
            "未查询结算记录": "PAYMENT_NOT_FOUND",
            "无效的就诊记录不支持X端退费": "HIS_REFUSED",
            "存在已结处方请先退处方再退挂号": "DEPENDENT_DOCUMENTS",
            "可退金额为零请确认是否HIS端已退": "ALREADY_REFUNDED",
            "退费失败请重试": "HIS_BUSY",
            "订单正在支付中勿重复": "HIS_BUSY",
        },
    ),
}


class Answering:
    """A session whose procedure answers a flag and a sentence."""

    def __init__(self, flag: str, text: str) -> None:
        self.out = {"@flag": flag, "@msg": text}

    def call(self, plan: ProcedurePlan, values: Any, *, max_rows: int) -> ProcedureResult:
        return ProcedureResult(self.out, ())


@pytest.mark.parametrize("vendor", VENDORS)
def test_what_a_vendor_says_becomes_its_reason(vendor: str, tmp_path: Path) -> None:
    ok, failed, rules, sentences = VENDORS[vendor]
    lines = "".join(
        f'  {{ is = "{failed}", text = "{part}", reason = "{reason}" }},\n' for part, reason in rules.items()
    )
    (tmp_path / "unlock.toml").write_text(CALL.format(ok=ok, errors=lines), encoding="utf-8")
    found = load_mapping_set(tmp_path, sources={"his": "mssql"}, timezone="Asia/Shanghai")
    operation = compile_generation(found).operation("AppointmentService.UnlockSlot")
    request = appointment_pb2.UnlockSlotRequest(order_no="T1")

    def run(flag: str, text: str) -> Any:
        session: Any = Answering(flag, text)
        return operation.run(session, request, now=NOW, key="0" * 32)

    for sentence, reason in sentences.items():
        with pytest.raises(HisError) as caught:
            run(failed, sentence)
        name = reason_pb2.Reason.Name(caught.value.reason).removeprefix("REASON_")
        assert name == reason, sentence
        if isinstance(caught.value, HisRefused):
            assert caught.value.text == sentence  # the patient's side hears the HIS's own words
    used = {part for part in rules if any(part in sentence for sentence in sentences)}
    assert set(rules) == used  # no rule is idle
    run(ok, "成功")
