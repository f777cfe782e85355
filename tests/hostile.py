"""Texts that want to be SQL, and requests that hold them in every text field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from his_db import contract

MARK = "z160z"  # stands in each of them, so that it is found in a statement wherever it went
HOSTILE = [
    f"{MARK}' OR '1'='1",
    f"{MARK}'; DROP TABLE SCH_APPT; --",
    f'{MARK}"; DELETE FROM his.gh_yyk WHERE 1=1; --',
    f"{MARK}\\'; DROP TABLE MS_YYGH; #",
    f"{MARK}') UNION ALL SELECT NAME_PI, ID_NO FROM PI_MASTER --",
    f"{MARK}`; SHUTDOWN; --",
    f"{MARK}]; EXEC xp_cmdshell 'dir'; --",
    f"{MARK}/**/OR/**/1=1",
    f"{MARK}$$; DROP SCHEMA his CASCADE; $$",
    f"'||(SELECT {MARK} FROM DUAL)||'",
    f":order_no :{MARK} ::int @p0 ? %s %(x)s {{0}} ${{x}}",
    f"100% {MARK} _ %",
    f"{MARK}\r\nGO\r\nDROP TABLE YY_KSBMK",
    f"{MARK}Ａ'；ＤＲＯＰ＇䶮𠅤\u2028",
    f"{MARK}\u02bc OR 1=1 --",  # a modifier letter that GBK and Latin-1 clients fold to an apostrophe
    f"{MARK}" + "'" * 300,
]


def text_fields(message: Any) -> Iterator[tuple[Any, FieldDescriptor]]:
    """Every text field that a request has, with the message that holds it; those below are made."""
    for field in message.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_STRING and not contract.is_map(field):
            yield message, field
        elif field.message_type is not None and not contract.is_map(field):
            if field.message_type.full_name.startswith("google."):
                continue
            below = getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)
            yield from text_fields(below)


def fill(message: Message, text: str, *, only: str = "", keep: frozenset[str] = frozenset({"page_token"})) -> Message:
    """The message with the text in every text field, or in `only` those of one name."""
    for holder, field in text_fields(message):
        if field.name in keep or (only and field.name != only):
            continue
        if field.is_repeated:
            getattr(holder, field.name).append(text)
        else:
            setattr(holder, field.name, text)
    return message
