"""Taking personal data out of messages before they are kept or sent: what the contract marks with ``debug_redact``."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)


def clear_personal(message: Message, *, keep: Collection[str] = ()) -> None:
    """Clears every personal field of the message and of the messages in it; ``keep`` names fields that stay."""
    for field, value in message.ListFields():
        if field.GetOptions().debug_redact:
            if field.name not in keep:
                message.ClearField(field.name)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for part in value if field.is_repeated else (value,):
                clear_personal(part, keep=keep)


def without_personal(message: M, *, keep: Collection[str] = ()) -> M:
    """A copy of the message without personal data."""
    copy = type(message)()
    copy.CopyFrom(message)
    clear_personal(copy, keep=keep)
    return copy
