"""Numbers that the agent makes itself: the same on every attempt, never the same for two things.

A number that stands for a thing (a refund, a batch of fees, a step) is derived from it, so that every retry and every
agent makes the same. A msgid of 医保 is counted, in the store, and on disk before it is used.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, tzinfo
from typing import Final

from sync.store import Transaction

STEP_ID_LENGTH: Final = 64
_SEQUENCE: Final = "msgid"
_PER_SECOND: Final = 10_000
SEQUENCES: Final = (0, 8999)
"""Sequences of msgids that a store counts; 9000 to 9999 are the gateway's own (reads, sign-ins)."""
_FUTURE: Final = timedelta(minutes=10)
_OUT_REFUND_LENGTH: Final = 64
_AUTOMATIC: Final = "-AUTO"


def step_id(parent: str, attempt: int, step: str) -> str:
    """request_id of a step of a command: readable at its end, at most 64 characters."""
    return f"{_digest(parent, str(attempt), step)[:32]}.{step}"[:STEP_ID_LENGTH]


def undoing_id(key: str) -> str:
    """request_id of the command by which the agent itself undoes a quote that nobody settled."""
    return f"{_digest('undo', key)[:32]}.undo_quote"


def returning_id(out_trade_no: str) -> str:
    """request_id of the command by which the agent itself gives back what was paid and never confirmed."""
    return f"{_digest('return', out_trade_no)[:32]}.return_payment"


def automatic_refund_no(out_trade_no: str) -> str:
    """商户退款单号 of a refund that the agent begins by itself. One payment has one: it can never go back twice."""
    wanted = out_trade_no + _AUTOMATIC
    if len(wanted) <= _OUT_REFUND_LENGTH:
        return wanted
    return _digest(out_trade_no)[:32] + _AUTOMATIC


def batch_no(order_no: str, request_id: str, attempt: int) -> str:
    """收费批次号 chrg_bchno of an attempt, also 院内单号 medOrgOrd of the payment centre: 20 characters.

    Short, for the number of a fee line (feedetl_sn, 30) is this and the line's number, and WeChat's serial_no holds 20.
    """
    return _digest(order_no, request_id, str(attempt))[:20].upper()


def centre_refund_no(batch: str) -> str:
    """appRefdSn of the payment centre: one order there is given back once."""
    return f"R{batch}"


def event_id(site: str, *parts: str) -> str:
    """32 hex digits made of the fact alone."""
    return _digest(site, *parts)[:32]


def next_msgid(
    transaction: Transaction, institution: str, now: datetime, zone: tzinfo, share: tuple[int, int] = SEQUENCES
) -> str:
    """The next msgid: institution(12) + yyyyMMddHHmmss(14) + sequence(4), by the hospital's wall clock.

    Time and sequence rise together, so that no pair comes twice, whatever the clock does; only when the last time lies
    far in the future (a clock set wrong, once) the time goes back, and then the sequence goes on where it was.
    ``share``: first and last sequence that are this agent's; agents with stores of their own have shares of their own.
    """
    second = int(now.timestamp())
    value = transaction.sequences.advance(_SEQUENCE, second * _PER_SECOND + share[0])
    if value // _PER_SECOND - second > _FUTURE.total_seconds():
        value = second * _PER_SECOND + value % _PER_SECOND
    value = _kept(transaction, value, share)
    while transaction.commands.has_natural_key(f"msgid:{_msgid(institution, value, zone)}"):
        # After a clock that went back for good: the first that no row of the ledger has.
        value = _kept(transaction, value + 1, share)
    return _msgid(institution, value, zone)


def _kept(transaction: Transaction, value: int, share: tuple[int, int]) -> int:
    """The first value from this one on whose sequence lies in the share; the counter stands at it."""
    second, sequence = divmod(value, _PER_SECOND)
    if sequence > share[1]:
        second, sequence = second + 1, share[0]
    value = second * _PER_SECOND + max(sequence, share[0])
    transaction.sequences.put(_SEQUENCE, value)
    return value


def _msgid(institution: str, value: int, zone: tzinfo) -> str:
    second, sequence = divmod(value, _PER_SECOND)
    return f"{institution}{datetime.fromtimestamp(second, zone):%Y%m%d%H%M%S}{sequence:04d}"


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode()
        digest.update(f"{len(content)}:".encode() + content)
    return digest.hexdigest()
