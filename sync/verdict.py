"""What the answer of a probe says about a command whose outcome is not known."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message
from his160.v1 import reason_pb2


class Finding(enum.Enum):
    """``OTHER``: the HIS shows something that neither the command nor its absence explains; a person must look."""

    DONE = "DONE"
    NOT_DONE = "NOT_DONE"
    REFUSED = "REFUSED"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``response`` comes with DONE, ``reason`` with REFUSED, ``detail`` (English, no personal data) with any."""

    finding: Finding
    response: Message | None = None
    reason: reason_pb2.Reason.ValueType = reason_pb2.REASON_UNSPECIFIED
    detail: str = ""


NOT_DONE: Final = Verdict(Finding.NOT_DONE)


def done(response: Message) -> Verdict:
    """The HIS did it, and this is the answer."""
    return Verdict(Finding.DONE, response)


def refused(reason: reason_pb2.Reason.ValueType, detail: str) -> Verdict:
    """The HIS did not do it, and a repetition would be refused for this reason."""
    return Verdict(Finding.REFUSED, reason=reason, detail=detail)


def other(detail: str) -> Verdict:
    """A person must look."""
    return Verdict(Finding.OTHER, detail=detail)
