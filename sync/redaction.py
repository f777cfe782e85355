"""Taking personal data out of messages: what the contract marks with ``debug_redact``, before they are kept or sent;
and free text beside it, before they are shown or written into the audit."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import TypeVar

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from his_db.contract import is_free_text, is_map, is_personal

M = TypeVar("M", bound=Message)


class _Part(enum.Enum):
    """What a field is to ``clear_personal``."""

    PERSONAL = enum.auto()
    TEXT = enum.auto()
    MESSAGE = enum.auto()
    MESSAGES = enum.auto()


@cache  # asked for each row of a watch: looking up the options of each field costs more than building the message
def _parts(descriptor: Descriptor) -> Mapping[int, _Part]:
    """The fields that matter, by number."""
    parts: dict[int, _Part] = {}
    for field in descriptor.fields:
        if is_personal(field):
            parts[field.number] = _Part.PERSONAL
        elif is_free_text(field):
            parts[field.number] = _Part.TEXT
        elif field.message_type is not None and not is_map(field) and _holds(field.message_type, frozenset()):
            parts[field.number] = _Part.MESSAGES if field.is_repeated else _Part.MESSAGE
    return parts


def _holds(descriptor: Descriptor, above: frozenset[str]) -> bool:
    """Whether something personal or somebody's words can be inside, at any depth. ``above``: who asks."""
    if descriptor.full_name in above:
        return False  # being looked at already
    inside = above | {descriptor.full_name}
    return any(
        is_personal(field)
        or is_free_text(field)
        or (field.message_type is not None and not is_map(field) and _holds(field.message_type, inside))
        for field in descriptor.fields
    )


@cache
def may_be_personal(descriptor: Descriptor) -> bool:
    """Whether a message of that kind can hold something that the contract marks as personal."""
    return any(part is not _Part.TEXT for part in _parts(descriptor).values())


def personal_names(message: Message) -> Iterator[list[str]]:
    """Of the message and of each in it that holds personal values: the names of those fields, never a value."""
    parts, own = _parts(message.DESCRIPTOR), []
    for field, value in message.ListFields():
        part = parts.get(field.number)
        if part is _Part.PERSONAL:
            own.append(field.name)
        elif part in (_Part.MESSAGE, _Part.MESSAGES):
            for inner in value if part is _Part.MESSAGES else (value,):
                yield from personal_names(inner)
    if own:
        yield own


def clear_personal(message: Message, *, keep: Collection[str] = (), hide_text: bool = False) -> None:
    """Clears every personal field of the message and of the messages in it; ``keep`` names fields that stay.

    ``hide_text``: of what somebody wrote in their own words, only its length stays.
    """
    if not keep and not hide_text:
        _clear(message)
        return
    parts = _parts(message.DESCRIPTOR)
    for field, value in message.ListFields():
        part = parts.get(field.number)
        if part is None:
            continue
        if part is _Part.PERSONAL:
            if field.name not in keep:
                message.ClearField(field.name)
        elif part is _Part.TEXT:
            if hide_text:
                setattr(message, field.name, f"***({len(value)})")
        else:
            for inner in value if part is _Part.MESSAGES else (value,):
                clear_personal(inner, keep=keep, hide_text=hide_text)


def clear_personal_of_all(messages: Sequence[Message]) -> None:
    """``clear_personal`` of each, all of one kind: field by field, since what to clear is the same for all of them."""
    personal, single, repeated = _places(messages[0].DESCRIPTOR) if messages else ((), (), ())
    for name in personal:
        for message in messages:
            message.ClearField(name)
    if single or repeated:
        for message in messages:
            _clear(message)


def _clear(message: Message) -> None:
    """Clears every personal field: as is done with each row of a watch."""
    personal, single, repeated = _places(message.DESCRIPTOR)
    for name in personal:
        message.ClearField(name)
    for name in single:
        if message.HasField(name):
            _clear(getattr(message, name))
    for name in repeated:
        for inner in getattr(message, name):
            _clear(inner)


@cache
def _places(descriptor: Descriptor) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names of the personal fields, of messages in which there may be some, and of lists of such messages."""
    parts = {descriptor.fields_by_number[number].name: part for number, part in _parts(descriptor).items()}
    personal, single, repeated = (
        tuple(name for name, part in parts.items() if part is wanted)
        for wanted in (_Part.PERSONAL, _Part.MESSAGE, _Part.MESSAGES)
    )
    return personal, single, repeated


def without_personal(message: M, *, keep: Collection[str] = ()) -> M:
    """A copy of the message without personal data."""
    copy = type(message)()
    copy.CopyFrom(message)
    clear_personal(copy, keep=keep)
    return copy


def for_showing(message: M) -> M:
    """A copy for a person's eyes or the audit: without personal data, and of free text its length only."""
    copy = type(message)()
    copy.CopyFrom(message)
    clear_personal(copy, hide_text=True)
    return copy
