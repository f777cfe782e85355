"""Reasons of the contract, by what they say about a repetition."""

from __future__ import annotations

from typing import Final

from his160.v1 import reason_pb2

TRANSIENT: Final = frozenset(
    {
        reason_pb2.REASON_HIS_UNAVAILABLE,
        reason_pb2.REASON_HIS_BUSY,
        reason_pb2.REASON_OVERLOADED,
        reason_pb2.REASON_SWITCHED_OFF,
        reason_pb2.REASON_DEADLINE_EXCEEDED,
        reason_pb2.REASON_OPERATION_NOT_MAPPED,
        reason_pb2.REASON_MAPPING_MISMATCH,
    }
)
"""A refusal for one of these says "not now": nothing happened, and the same request may run again."""
