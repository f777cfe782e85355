"""The steps of the story, in order."""

from __future__ import annotations

from typing import Final

from agent.demo import platform_steps as platform
from agent.demo import window_steps as window
from agent.demo.story import Step

STEPS: Final = (
    Step("departments", "科室", "ListDepartments", platform.departments),
    Step("doctors", "医生", "ListDoctors", platform.doctors),
    Step("schedules", "排班", "ListSchedules", platform.schedules),
    Step("slots", "号源", "ListSlots", platform.slots),
    Step("ensure_patient", "建档", "EnsurePatient", platform.ensure_patient),
    Step("ensure_patient_again", "再次建档", "EnsurePatient", platform.ensure_patient_again),
    Step("lock", "锁号", "LockSlot", platform.lock),
    Step("book", "预约", "BookAppointment", platform.book),
    Step("confirm_payment", "支付回写（挂号）", "ConfirmPayment", platform.confirm_payment),
    Step("get_payment", "查询支付", "GetPayment", platform.get_payment),
    Step("window_cancel", "窗口取消另一预约", "window → event", window.window_cancel),
    Step("window_refund", "窗口退号退费", "window → event", window.window_refund),
    Step("suspend", "窗口停诊", "window → events", window.suspend),
    Step("refund", "平台退号退费", "RefundPayment", platform.refund),
    Step("platform_cancel", "平台取消，无回声", "CancelAppointment", platform.platform_cancel),
    Step("same_request", "同一请求重发", "same request_id", platform.same_request),
    Step("other_payload", "同号不同内容", "other payload", platform.other_payload),
)
