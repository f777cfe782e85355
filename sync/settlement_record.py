"""What is kept of an insured visit, step by step: pure rules from what was sent and answered to the sealed record.

Everything that a later step back needs, and that nothing else keeps: the person's number, the numbers of 医保 and of
its messages, the split. Changed by the same commit as the step's row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from google.protobuf.message import Message
from his160.site.v1 import insurance_gateway_pb2, mobile_payment_pb2
from his160.v1 import reason_pb2

from sync.judgements_site import MOBILE_GIVEN_BACK, MOBILE_SETTLED, MOBILE_WAITING
from sync.money_book import SettlementRow, SettlementState

_Record = insurance_gateway_pb2.SettlementRecord


@dataclass(frozen=True, slots=True)
class Opening:
    """What a new row begins with: the order, the command that opens the visit, and the number of its fee batch."""

    order_no: str
    owner: str
    batch_no: str


def when_sent(row: SettlementRow | None, message: Message, opening: Opening, now: datetime) -> SettlementRow | None:
    """The row as it must be on disk before the message leaves; the same row when the message changes nothing of it."""
    name = message.DESCRIPTOR.name
    if name in _OPENING and (row is None or row.key != opening.batch_no):
        row = _opened(opening, now)
    change = _SENT.get(name)
    return row if row is None or change is None else _changed(row, now, change, message)


def when_done(row: SettlementRow | None, message: Message, now: datetime) -> SettlementRow | None:
    """The row after the answer; the same row when the answer changes nothing of it."""
    change = _DONE.get(message.DESCRIPTOR.name)
    return row if row is None or change is None else _changed(row, now, change, message)


def when_told(
    row: SettlementRow | None, answer: mobile_payment_pb2.QueryOrderResponse, now: datetime
) -> SettlementRow | None:
    """The row after a look at an order that waits for payment: the split that the centre would settle."""
    order = answer.order
    is_asked = row is not None and row.pay_order_id == order.pay_order_id and row.state is SettlementState.QUOTED
    if row is None or not is_asked or order.state not in MOBILE_WAITING or not order.HasField("split"):
        return row
    return _changed(row, now, _told, answer)


def when_refused(row: SettlementRow | None, operation: str, reason: int, now: datetime) -> SettlementRow | None:
    """The row after a refused step: what 医保 does not cancel is not tried for ever, the step is the evidence."""
    if row is None or operation not in _LAST_BACK or reason == reason_pb2.REASON_INSURANCE_SETTLED:
        return row
    if row.state not in (SettlementState.OPEN, SettlementState.QUOTED):
        return row
    return replace(row, state=SettlementState.CLOSED, pay_token="", changed_time=now)


def adopted(record: _Record, opening: Opening, now: datetime) -> SettlementRow:
    """A row of a settlement that the agent did not make: as the HIS has it written."""
    kept = _Record()
    kept.CopyFrom(record)
    return SettlementRow(
        key=record.batch_no or opening.batch_no,
        order_key=opening.order_no,
        state=SettlementState.SETTLED,
        created_time=now,
        changed_time=now,
        record=kept.SerializeToString(deterministic=True),
        setl_id=record.setl_id,
        mdtrt_id=record.mdtrt_id,
        owner=opening.owner,
    )


def made_whole(message: Message, row: SettlementRow | None) -> Message:
    """The message with the person's number and the centre's token where it has a place for them, as they are sealed:
    the ledger has kept neither.
    """
    whole: Any = type(message)()
    whole.CopyFrom(message)
    if row is None:
        return whole  # type: ignore[no-any-return]
    record = _Record.FromString(row.record)
    if "pay_token" in whole.DESCRIPTOR.fields_by_name and not whole.pay_token:
        whole.pay_token = row.pay_token
    parts: tuple[Any, ...] = (whole, getattr(whole, "subject", None), getattr(whole, "settlement", None))
    for part in parts:
        if part is not None and "person_no" in part.DESCRIPTOR.fields_by_name and not part.person_no:
            part.person_no = record.person_no
    return whole  # type: ignore[no-any-return]


_Change = Callable[[SettlementRow, Any, Any], SettlementRow]


def _changed(row: SettlementRow, now: datetime, change: _Change, message: Message) -> SettlementRow:
    record = _Record.FromString(row.record)
    following = change(row, record, message)
    following = replace(following, record=record.SerializeToString(deterministic=True))
    return row if following == row else replace(following, changed_time=now)


def _opened(opening: Opening, now: datetime) -> SettlementRow:
    return SettlementRow(
        key=opening.batch_no,
        order_key=opening.order_no,
        state=SettlementState.OPEN,
        created_time=now,
        changed_time=now,
        record=_Record(order_no=opening.order_no, batch_no=opening.batch_no).SerializeToString(deterministic=True),
        owner=opening.owner,
    )


def _visit_sent(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    record.person_no, record.insutype, record.insured_area = message.person_no, message.insutype, message.insured_area
    record.visit_no, record.visit_msgid = message.visit_no, message.msgid
    return row


def _visit_done(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    record.mdtrt_id = message.mdtrt_id
    record.sign_no = message.sign_no or record.sign_no
    return replace(row, mdtrt_id=message.mdtrt_id)


def _info_sent(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    record.medical_type = message.medical_type
    return row


def _fees_sent(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    record.fees_msgid, record.batch_no = message.msgid, message.batch_no
    return row


def _quoted(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    _take_split(record, message.settlement)
    return replace(row, state=SettlementState.QUOTED)


def _settle_sent(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    record.settle_msgid = message.msgid
    return row


def _settled(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    found = message.settlement
    _take_split(record, found)
    record.setl_id = found.setl_id
    for name in ("clearing_type", "clearing_way", "clearing_office", "sign_no", "medical_type"):
        setattr(record, name, getattr(found, name) or getattr(record, name))
    if found.HasField("settle_time"):
        record.settle_time.CopyFrom(found.settle_time)
    return replace(row, state=SettlementState.SETTLED, setl_id=found.setl_id)


def _cancel_sent(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    record.cancel_msgid = message.msgid
    return row


def _registering(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    return replace(row, out_trade_no=message.out_trade_no or row.out_trade_no)


def _order_sent(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    record.person_no, record.insured_area = message.person_no, message.credential.insured_area
    record.insutype, record.visit_no, record.medical_type = message.insutype, message.visit_no, message.medical_type
    return row


def _order_done(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    record.mdtrt_id = message.mdtrt_id or record.mdtrt_id
    return replace(
        row,
        pay_order_id=message.pay_order_id,
        pay_token=message.pay_token or row.pay_token,
        mdtrt_id=record.mdtrt_id,
        state=SettlementState.QUOTED,
    )


def _told(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    record.split.CopyFrom(message.order.split)
    return row


def _order_paid(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    found = message.order
    if found.state not in MOBILE_SETTLED:
        return row
    if found.HasField("split"):
        record.split.CopyFrom(found.split)
    record.setl_id, record.mdtrt_id = found.setl_id, found.mdtrt_id or record.mdtrt_id
    if found.HasField("settle_time"):
        record.settle_time.CopyFrom(found.settle_time)
    return replace(row, state=SettlementState.SETTLED, setl_id=found.setl_id, mdtrt_id=record.mdtrt_id)


def _order_refunded(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    is_back = message.order.state in MOBILE_GIVEN_BACK
    return replace(row, state=SettlementState.REVERSED, pay_token="") if is_back else row


def _closed(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
    unsettled = row.state in (SettlementState.OPEN, SettlementState.QUOTED)
    return replace(row, state=SettlementState.CLOSED, pay_token="") if unsettled else row


def _turned(state: SettlementState) -> _Change:
    def change(row: SettlementRow, record: _Record, message: Any) -> SettlementRow:
        return replace(row, state=state)

    return change


def _take_split(record: _Record, found: _Record) -> None:
    """The amounts as found, zeros among them: a merge would keep what stood there before."""
    if found.HasField("split"):
        record.split.CopyFrom(found.split)
    if found.HasField("amounts"):
        record.amounts.CopyFrom(found.amounts)


_LAST_BACK: Final = frozenset({"InsuranceGatewayService.CancelVisit", "MobilePaymentService.CancelOrder"})
_OPENING: Final = frozenset({"OpenVisitRequest", "UploadOrderRequest"})
_SENT: Final[dict[str, _Change]] = {
    "OpenVisitRequest": _visit_sent,
    "UploadVisitRequest": _info_sent,
    "UploadFeesRequest": _fees_sent,
    "SettleRequest": _settle_sent,
    "CancelSettlementRequest": _cancel_sent,
    "RegisterInsuredRequest": _registering,
    "UploadOrderRequest": _order_sent,
}
_DONE: Final[dict[str, _Change]] = {
    "OpenVisitResponse": _visit_done,
    "PreSettleResponse": _quoted,
    "SettleResponse": _settled,
    "CancelSettlementResponse": _turned(SettlementState.REVERSED),
    "ReverseTransactionResponse": _turned(SettlementState.VOIDED),
    "CancelVisitResponse": _closed,
    "UploadOrderResponse": _order_done,
    "PayOrderResponse": _order_paid,
    "RefundOrderResponse": _order_refunded,
    "CancelOrderResponse": _closed,
}
