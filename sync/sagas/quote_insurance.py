"""QuoteInsurance: a visit is opened at 医保 and pre-settled. It stays open for the settlement that may follow.

Opening it costs the patient's credential and four transactions, so a settlement within ``quote_keep`` takes it over; a
quote that nobody settles is undone by the sweep (``undo_quote``), a new quote undoes the one before it.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import Message
from his160.v1 import insurance_pb2

from sync.saga import Saga
from sync.saga_centre import (
    CENTRE_QUOTES,
    QUOTE_TOLD,
    former_order,
    order_back,
    pay_order_id,
    upload_steps,
)
from sync.saga_context import Context
from sync.saga_insured import (
    OPENS,
    fees_back,
    former_visit,
    has_fees,
    has_visit,
    is_open_visit,
    is_quoted,
    opening_steps,
    settlement_of,
    visit_back,
)

OPERATION: Final = "InsuranceService.QuoteInsurance"


def _respond(context: Context) -> Message:
    settlement = settlement_of(context, insurance_pb2.INSURANCE_STATE_QUOTED)
    return insurance_pb2.QuoteInsuranceResponse(settlement=settlement)


def _respond_from_centre(context: Context) -> Message:
    settlement = settlement_of(context, insurance_pb2.INSURANCE_STATE_QUOTED)
    settlement.split.CopyFrom(context.fact("quoted").order.split)
    return insurance_pb2.QuoteInsuranceResponse(settlement=settlement)


SAGA: Final = Saga(
    name="quote_insurance",
    operation=OPERATION,
    needs=OPENS,
    is_substitute=True,
    steps=(
        fees_back("former_fees", former_visit),
        visit_back("former_visit", former_visit),
        *opening_steps(),
    ),
    undo=(fees_back("undo_fees", has_fees), visit_back("undo_visit", has_visit)),
    respond=_respond,
)

BY_CENTRE: Final = Saga(
    name="quote_insurance_by_centre",
    operation=OPERATION,
    needs=CENTRE_QUOTES,
    is_substitute=True,
    steps=(order_back("former_order", former_order), *upload_steps()),
    undo=(order_back("undo_order", lambda context: context.may_be_done("order") and bool(pay_order_id(context))),),
    closing=(QUOTE_TOLD,),
    respond=_respond_from_centre,
)


UNDO: Final = Saga(
    name="undo_quote",
    operation=OPERATION,
    needs=frozenset(),
    is_own=True,
    steps=(
        fees_back("fees", is_open_visit),
        visit_back("visit", is_open_visit),
        order_back("order", lambda context: is_quoted(context) and bool(pay_order_id(context))),
    ),
    undo=(),
    respond=lambda _: insurance_pb2.QuoteInsuranceResponse(),
)
