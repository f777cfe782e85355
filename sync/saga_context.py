"""What a saga knows when it decides: its rows, the books of its order, and what it has read in this run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, Final

from google.protobuf.message import Message
from his160.site.v1 import insurance_gateway_pb2

from sync.commands import COMMANDS
from sync.money_book import RefundRow, SettlementRow
from sync.numbers import SEQUENCES
from sync.store import CommandRow, CommandState

CHINA: Final = timezone(timedelta(hours=8))  # no summer time since 1991
_EFFECTIVE: Final = frozenset({CommandState.DONE, CommandState.SENT, CommandState.UNKNOWN})


@dataclass(frozen=True, slots=True)
class SagaRules:
    """What a site says about its sagas (config.toml, ``[insurance]`` and ``[payment]``).

    ``institution``: 定点医药机构编号, 12 characters, empty where 医保 is not used by sagas. ``sequences``: of its
    msgids, first and last. ``family_apart``: the province counts 个人账户共济 beside the personal account, not in it.
    ``medical_type``: med_type where the HIS gives none. ``payment_window``: how long a trade may be paid.
    ``quote_keep``: how long a quoted visit waits for its settlement. ``patience``: how long a saga that needs the
    caller's short-lived data waits for a retry before it goes back. ``confirm_within``: how long what was paid waits
    for its confirmation; ``returns_unconfirmed``: then it goes back, else a person sees to it.
    """

    site: str = ""
    zone: tzinfo = CHINA
    institution: str = ""
    sequences: tuple[int, int] = SEQUENCES
    family_apart: bool = False
    use_account: bool = True
    medical_type: str = "12"
    payment_window: timedelta = timedelta(minutes=15)
    quote_keep: timedelta = timedelta(minutes=30)
    patience: timedelta = timedelta(minutes=2)
    confirm_within: timedelta = timedelta(hours=2)
    returns_unconfirmed: bool = True


@dataclass(frozen=True, slots=True)
class Books:
    """What the store holds of an order: its commands and steps, its newest insured visit, its refunds.

    At most one insured visit of an order is live, and it is the newest: a new one is opened after the old one is
    undone.
    """

    history: Sequence[CommandRow] = ()
    settlement: SettlementRow | None = None
    refunds: Sequence[RefundRow] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that a saga's functions may look at. They are pure: the same context, the same word.

    ``request``: the caller's; whole when ``has_caller``, else without personal and short-lived data. ``rows``: the
    steps of this attempt by name. ``tried``: steps that came to no end in this run. ``is_patient``: the caller may
    still come back. ``facts``: what looks have answered in this run, None where the other side knows no such thing.
    ``number``: the msgid of the request being built. ``maps``: whether the site maps an operation.
    """

    parent: CommandRow
    request: Any
    rows: Mapping[str, CommandRow]
    books: Books
    rules: SagaRules
    now: datetime
    has_caller: bool = True
    is_patient: bool = True
    tried: frozenset[str] = frozenset()
    facts: Mapping[str, Message | None] = field(default_factory=dict)
    maps: Callable[[str], bool] = lambda _: True
    number: str = ""

    def state(self, step: str) -> CommandState | None:
        """State of a step; None when it was never begun."""
        row = self.rows.get(step)
        return None if row is None else row.state

    def is_done(self, step: str) -> bool:
        return self.state(step) is CommandState.DONE

    def may_be_done(self, *steps: str) -> bool:
        """Whether one of the steps has, or may have, taken effect."""
        return any(self.state(step) in _EFFECTIVE for step in steps)

    def answer(self, step: str) -> Any:
        """The answer of a DONE step (without what is sealed); None otherwise."""
        row = self.rows.get(step)
        if row is None or row.state is not CommandState.DONE:
            return None
        return COMMANDS[row.operation].response_class.FromString(row.result)

    def sent(self, step: str) -> Any:
        """The request of a step as the ledger keeps it, without personal data; None when it was never begun."""
        row = self.rows.get(step)
        return None if row is None else COMMANDS[row.operation].request_class.FromString(row.request)

    def fact(self, look: str) -> Any:
        """What a look has answered in this run; None when it was not made, or found nothing."""
        return self.facts.get(look)

    @property
    def record(self) -> insurance_gateway_pb2.SettlementRecord:
        """The sealed record of the order's newest insured visit; an empty one when there is none."""
        row = self.books.settlement
        return insurance_gateway_pb2.SettlementRecord.FromString(b"" if row is None else row.record)

    @property
    def order_no(self) -> str:
        return self.parent.order_key
