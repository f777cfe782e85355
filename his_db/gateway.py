"""The port to a gateway: a protocol of a payment house or insurance platform that no template can say.

A gateway turns an internal operation (`his160.site.v1`) into signed, enveloped, encrypted exchanges over a source of
engine `http`, and their answers into the message of the contract. Implementations: `his_db/gateways/<name>.py`, listed
in `his_db/registry.py`; none knows another. A gateway never repeats what may have been done: the ledger does.

What an error of `run` means (errors of `his_db.errors`; a write counts as `commits = "procedure"`):

| raised                  | when                                                                                      |
|-------------------------|-------------------------------------------------------------------------------------------|
| HisRefused              | the other side said no, or the request cannot be sent as it is: nothing was done          |
| HisUnavailable, HisBusy | nothing was done; the same may be sent again (`retry_after`)                              |
| MappingMismatch         | the answer is not what the protocol says: of a write, the outcome is unknown              |
| OutcomeUnknown          | the other side does not know itself, or says that it has seen this number before          |
| HttpFault               | of the exchanger, as the lane classifies it: CONNECT is nothing sent; all else is unknown |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, runtime_checkable
from zoneinfo import ZoneInfo

from google.protobuf.message import Message

from his_db.document.shape import Field
from his_db.errors import HisUnavailable
from his_db.http_exchange import Exchanger, HttpFault, HttpReply, HttpRequest
from his_db.mapping.finding import Reporter


class OpenedGateway(Protocol):
    """A gateway with its options: one for each file, shared by its operations and by the threads of all lanes."""

    def run(self, exchanger: Exchanger, operation: str, request: Message, now: datetime) -> Message:
        """The response of one operation. `now` is aware. See the module for what is raised.

        Where `exchanger.goes_out` is false (a `[[test]]`) no secret is read: nothing is signed, nothing verified.
        """


class Gateway(Protocol):
    """One protocol. Stateless; made without arguments."""

    name: ClassVar[str]
    operations: ClassVar[frozenset[str]]
    """The operations of `his160.site.v1` that it can do."""

    def options(self) -> Mapping[str, Field]:
        """The keys of `[options]`. A secret has the shape `his_db.secret_reference.Reference`."""

    def able(self, options: Mapping[str, Any]) -> frozenset[str]:
        """Those of `operations` that these options are enough for. The shape of `options` may be wrong."""

    def check(self, options: Mapping[str, Any], operations: frozenset[str], report: Reporter) -> None:
        """Report what the shape cannot see, below the path ("options", …). `operations`: those that are mapped."""

    def open(self, options: Mapping[str, Any], zone: ZoneInfo) -> OpenedGateway:
        """Ready to run; nothing is read or sent yet. `zone`: the hospital's."""


@runtime_checkable
class OfGateway(Protocol):
    """The runner of an operation that a gateway does."""

    gateway: str
    opened: OpenedGateway


@dataclass(frozen=True, slots=True)
class Notice:
    """A call-back of the other side, verified. It is a hint to ask, never evidence.

    `notice_id`: the sender's own id; the same fact comes again under another one, so what is deduplicated is
    `number` with `event`. `number`: the business number that the ledger knows (out_trade_no, out_refund_no, payOrdId).
    """

    event: str
    number: str
    notice_id: str = ""
    detail: Mapping[str, str] = field(default_factory=dict, repr=False)


class NoticeRefused(Exception):
    """Not a call-back of the other side: wrong signature, stale, garbage. The text holds no value of it."""


@runtime_checkable
class NoticeReader(Protocol):
    """What an opened gateway has beside `run` when the other side calls back."""

    def notice(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Notice:
        """The call-back. `headers` by lower-case name. Raises NoticeRefused; HisUnavailable when a key is missing."""

    def answer(self, *, accepted: bool) -> tuple[int, bytes]:
        """Status and JSON body that the other side expects."""


def ask_first(exchanger: Exchanger, request: HttpRequest, label: str) -> HttpReply:
    """An exchange that comes before the one that counts (sign-in, look-up): whatever breaks, nothing was done.

    Raises HisUnavailable.
    """
    try:
        return exchanger.exchange(request)
    except HttpFault as fault:
        raise HisUnavailable(f"{label}: {fault.fault.value}: {fault}") from None
