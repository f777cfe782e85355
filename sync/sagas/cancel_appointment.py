"""CancelAppointment of an order that may be being paid: the trade is closed before the slot is released."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import Message
from his160.v1 import appointment_pb2

from sync.saga import Saga, Step
from sync.saga_cash import CLOSE_TRADE, close_steps, open_trades
from sync.saga_context import Context

OPERATION: Final = "AppointmentService.CancelAppointment"


def _cancel(context: Context) -> Message:
    message = appointment_pb2.CancelAppointmentRequest()
    message.CopyFrom(context.request)
    return message


def _respond(context: Context) -> Message:
    answer: Message = context.answer("cancel")
    return answer


SAGA: Final = Saga(
    name="cancel_appointment",
    operation=OPERATION,
    needs=frozenset({OPERATION, CLOSE_TRADE}),
    steps=(*close_steps(open_trades), Step("cancel", OPERATION, _cancel)),
    undo=(),
    respond=_respond,
)
