"""Commands over several systems that die: the HIS, the payment house and 医保 each keep a book. See ``scenes.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from his160.v1 import common_pb2, insurance_pb2, payment_pb2
from sqlalchemy import create_engine, text

from his_db.samples.bsoft import open_mysql
from tests.chaos.invariants import CREATE, PAY, QUOTE, REVERSE, SETTLE
from tests.chaos.scenes import Customer, Scene
from tests.chaos.site import ChaosSite


def _open(who: Customer, request_id: str, amount: int = 0) -> Any:
    return payment_pb2.CreatePaymentRequest(
        request_id=request_id,
        order_no=who.order_no,
        out_trade_no=who.out_trade_no,
        amount_fen=amount or who.place.fee_fen,
        payer_openid="oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
    )


def _open_cash(who: Customer, request_id: str) -> Any:
    return _open(who, request_id, who.notes["split"].cash_fen)


def _confirm(who: Customer, request_id: str) -> Any:
    request = payment_pb2.ConfirmPaymentRequest(
        request_id=request_id,
        order_no=who.order_no,
        out_trade_no=who.out_trade_no,
        transaction_id=who.notes["transaction"],
        amount_fen=who.place.fee_fen,
        method=common_pb2.PAYMENT_METHOD_WECHAT,
    )
    request.pay_time.FromJsonString("2026-03-02T01:00:00Z")
    return request


def _credential(who: Customer) -> insurance_pb2.InsuranceCredential:
    return insurance_pb2.InsuranceCredential(certificate_type="01", certificate_no=who.order_no, insured_area="440300")


def _quote(who: Customer, request_id: str) -> Any:
    return insurance_pb2.QuoteInsuranceRequest(
        request_id=request_id, order_no=who.order_no, credential=_credential(who)
    )


def _settle(who: Customer, request_id: str) -> Any:
    return insurance_pb2.SettleInsuranceRequest(
        request_id=request_id,
        order_no=who.order_no,
        credential=_credential(who),
        agreed_split=who.notes["split"],
        out_trade_no=who.out_trade_no,
    )


def _reverse(who: Customer, request_id: str) -> Any:
    return insurance_pb2.ReverseInsuranceRequest(
        request_id=request_id, order_no=who.order_no, setl_id=who.notes["setl_id"]
    )


HOUSE_REQUESTS: Final[Mapping[str, tuple[str, Callable[[Customer, str], Any]]]] = {
    "open": (CREATE, _open),
    "open_cash": (CREATE, _open_cash),
    "confirm": (PAY, _confirm),
    "quote": (QUOTE, _quote),
    "settle": (SETTLE, _settle),
    "reverse": (REVERSE, _reverse),
}


def _pay(site: ChaosSite, who: Customer) -> None:
    """The patient pays in WeChat."""
    assert site.houses is not None
    site.houses.pay(who.out_trade_no)
    who.notes["transaction"] = site.houses.transaction(who.out_trade_no)


def _insure(site: ChaosSite, who: Customer) -> None:
    """The patient is insured."""
    assert site.houses is not None
    site.houses.insure(who.order_no, *site.reader.person(who.place.patient_id))


def _cancel_at_window(site: ChaosSite, who: Customer) -> None:
    """The window cancels the booking: the HIS will refuse to register it."""
    site.window.cancel_booking(site.reader.read([who.order_no]).of(who.order_no)[0].his_id, operator="0931")


_USED: Final = {
    "sqlite": "UPDATE BL_EXT_PAY SET OUT_TRADE_NO = :number WHERE PK_EXTPAY = (SELECT MIN(PK_EXTPAY) FROM BL_EXT_PAY "
    "WHERE FLAG_PAY = '1' AND SERIAL_NO NOT LIKE 'C0160%')",
    "postgresql": "UPDATE his.sf_brjsk SET zph = :number WHERE sjh = (SELECT MIN(sjh) FROM his.sf_brjsk WHERE tsjh IS NULL)",
    "mysql": "UPDATE MS_FKXX SET FKHM = :number WHERE FKJE > 0 AND FKFS NOT IN (9, 98) ORDER BY JLXH LIMIT 1",
}


def _use_number(site: ChaosSite, who: Customer) -> None:
    """Another order's payment stands in the HIS under this number: only the registration itself is refused."""
    engine = open_mysql(site.url) if site.engine == "mysql" else create_engine(site.url)
    with engine.begin() as his:
        assert his.execute(text(_USED[site.engine]), {"number": who.out_trade_no}).rowcount == 1
    engine.dispose()


ACTS: Final[Mapping[str, Callable[[ChaosSite, Customer], None]]] = {
    "@pay": _pay,
    "@insure": _insure,
    "@window": _cancel_at_window,
    "@used": _use_number,
}
"""What people do between the commands."""

_BOOKED: Final = ("lock", "book")
_PAID: Final = (*_BOOKED, "open", "@pay")
_QUOTED: Final = (*_BOOKED, "@insure", "quote")
_CASH_PAID: Final = (*_QUOTED, "open_cash", "@pay")

HOUSE_SCENES: Final = (
    Scene("CreatePayment", "open", _BOOKED, next="cancel"),
    Scene("ConfirmPayment of a trade", "confirm", _PAID, next="refund"),
    Scene("ConfirmPayment, refused: money back", "confirm", (*_PAID, "@window"), next="refund", refused=True),
    Scene("RefundPayment of a trade", "refund", (*_PAID, "confirm"), next="cancel"),
    Scene("CancelAppointment, trade open", "cancel", (*_BOOKED, "open"), next="lock"),
    Scene("QuoteInsurance", "quote", (*_BOOKED, "@insure"), next="cancel"),
    Scene("SettleInsurance", "settle", _CASH_PAID, next="cancel"),
    Scene("SettleInsurance, cancelled before", "settle", (*_CASH_PAID, "@window"), next="refund", refused=True),
    Scene("SettleInsurance, HIS refuses: all undone", "settle", (*_CASH_PAID, "@used"), next="cancel", refused=True),
    Scene("ReverseInsurance", "reverse", (*_CASH_PAID, "settle"), next="cancel"),
)
