"""What can go wrong between a canonical operation and the HIS, grouped by what the caller does next.

| error              | was the HIS changed?      | what the caller does                                    |
|--------------------|---------------------------|---------------------------------------------------------|
| OperationNotMapped | no                        | nothing: the site cannot do it                          |
| MappingMismatch    | no (rolled back)          | nothing: the DBA mends the mapping                      |
| HisChanged         | no (rolled back)          | nothing: as above; the operation degrades by itself     |
| SwitchedOff        | no (nothing was sent)     | sends the same again after the time said                |
| HisRefused         | no (the HIS said so)      | tells the patient; never repeats by itself              |
| HisUnavailable     | no (nothing was sent)     | sends the same again later                              |
| HisBusy            | no (rolled back)          | sends the same again soon                               |
| Overloaded         | no (never left the queue) | sends the same again later                              |
| AnswerTooLarge     | no                        | asks for less                                           |
| DeadlinePassed     | no (reads only)           | sends the same again                                    |
| OutcomeUnknown     | **not known**             | probes; never reports failure, never blindly repeats    |

``metadata``: names and values that the caller is told besides the reason (a refund number); never personal data.
``str(error)`` holds English technical text without patient data, SQL values or passwords, and may be logged.
``HisRefused.text`` is the HIS's own sentence; it may name a patient, so it is never logged and never sent as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from his160.v1 import reason_pb2


class HisError(Exception):
    """Base of all errors of this room. ``reason`` is a value of ``his160.v1.Reason``."""

    reason: reason_pb2.Reason.ValueType = reason_pb2.REASON_INTERNAL

    def __init__(self, detail: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.metadata: Mapping[str, str] = {}


class OperationNotMapped(HisError):
    """The site has no mapping for the operation, or one of kind ``unsupported`` (then ``note`` says why, Chinese)."""

    reason = reason_pb2.REASON_OPERATION_NOT_MAPPED

    def __init__(self, operation: str, note: str = "") -> None:
        super().__init__(f"{operation} is not mapped at this site")
        self.operation = operation
        self.note = note


class MappingMismatch(HisError):
    """The mapping does not fit the HIS as it is: missing column, unmapped code, wrong type, missing right."""

    reason = reason_pb2.REASON_MAPPING_MISMATCH


class HisChanged(MappingMismatch):
    """An object that the mapping names is not as it says, whatever the values: missing, no right, other parameters.

    A HIS patch does that; counted by `his_db.degradation`.
    """


class SwitchedOff(HisError):
    """A person has switched the operation off, or it is quiet hours. ``note`` is shown to the caller (Chinese)."""

    reason = reason_pb2.REASON_SWITCHED_OFF

    def __init__(self, detail: str, *, note: str = "", retry_after: timedelta | None = None) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.note = note


class HisRefused(HisError):
    """The HIS answered no, for a reason of the contract. Nothing was changed."""

    def __init__(
        self,
        reason: reason_pb2.Reason.ValueType,
        detail: str,
        *,
        text: str = "",
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.reason = reason
        self.text = text


class HisUnavailable(HisError):
    """No connection to the HIS could be had, or it broke before anything was sent."""

    reason = reason_pb2.REASON_HIS_UNAVAILABLE


class HisBusy(HisError):
    """Deadlock, lock time-out or statement time-out; the transaction was rolled back, nothing was changed."""

    reason = reason_pb2.REASON_HIS_BUSY


class Overloaded(HisError):
    """The lane's queue is full or the call waited too long in it. Nothing was sent."""

    reason = reason_pb2.REASON_OVERLOADED


class AnswerTooLarge(HisError):
    """More rows than the operation may return."""

    reason = reason_pb2.REASON_ANSWER_TOO_LARGE


class DeadlinePassed(HisError):
    """The caller's deadline passed before the read was done."""

    reason = reason_pb2.REASON_DEADLINE_EXCEEDED


class OutcomeUnknown(HisError):
    """The connection broke after the write was sent and before its commit was confirmed.

    ``changed``: set when it is not known because what a procedure answered is not as the mapping says.
    """

    reason = reason_pb2.REASON_OUTCOME_UNKNOWN
    changed: HisChanged | None = None
