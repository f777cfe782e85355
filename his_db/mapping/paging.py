"""Pages of a list: the opaque token, the key after which the next page begins, or an offset where the SQL has none."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message
from his160.v1 import reason_pb2

from his_db.contract import ContractOperation
from his_db.errors import HisRefused, MappingMismatch

MAX_ROWS: Final = 10_000
_MAX_TOKEN: Final = 2_000


class Page(NamedTuple):
    """Which page is asked for. `after` is the last key of the page before (keyset), or the number of rows to skip.

    A tuple: it is made for each call, in a third of the time.
    """

    size: int
    after: Any
    is_keyset: bool
    operation: str
    request: Message
    """What is asked; hashed only where a token comes or goes."""

    @property
    def offset(self) -> int:
        """Rows to skip where the SQL does not page."""
        return 0 if self.is_keyset or self.after is None else int(self.after)

    def token(self, key: Any) -> str:
        """The token of the page after `key`. Raises MappingMismatch when a key of this type cannot be carried."""
        digest = _digest(self.request, self.is_keyset)
        text = json.dumps({"k": _packed(key), "o": self.operation, "h": digest}, ensure_ascii=False)
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def open_page(operation: ContractOperation, request: Message, *, is_keyset: bool) -> Page:
    """The page that `request` asks for. Raises HisRefused (INVALID_REQUEST) for a foreign or damaged token."""
    asked: int = getattr(request, "page_size")  # noqa: B009 - a field of the request, not an attribute of Message
    if asked < 0:
        raise _invalid("page_size is negative")
    size = min(asked, operation.page_maximum) or operation.page_size
    token: str = getattr(request, "page_token")  # noqa: B009 - as above
    after = _unpacked_token(token, operation.name, _digest(request, is_keyset), is_keyset) if token else None
    return Page(size, after, is_keyset, operation.name, request)


def _digest(request: Message, is_keyset: bool) -> str:
    """Short hash of what is asked for, without how much of it: a token belongs to one question."""
    rest = type(request)()
    rest.CopyFrom(request)
    for name in ("page_size", "page_token", "realtime"):
        if name in rest.DESCRIPTOR.fields_by_name:
            rest.ClearField(name)
    raw = rest.SerializeToString(deterministic=True) + (b"k" if is_keyset else b"o")
    return hashlib.sha256(raw).hexdigest()[:12]


def _unpacked_token(token: str, operation: str, digest: str, is_keyset: bool) -> Any:
    if len(token) > _MAX_TOKEN or not token.isascii():
        raise _invalid("page_token is not a token of this agent")
    try:
        data = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        key = _unpacked(data["k"])
        belongs = data["o"] == operation and data["h"] == digest
    except (binascii.Error, ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        raise _invalid("page_token is not a token of this agent") from None
    if not belongs:
        raise _invalid("page_token belongs to another question")
    if not is_keyset and not (isinstance(key, int) and 0 < key <= MAX_ROWS):
        raise _invalid("page_token is not a token of this agent")
    return key


def _packed(key: Any) -> Any:
    if isinstance(key, (str, int)) and not isinstance(key, bool):
        return key
    if isinstance(key, Decimal):
        return {"n": str(key)}
    if isinstance(key, datetime):
        return {"t": key.isoformat()}
    if isinstance(key, date):
        return {"d": key.isoformat()}
    raise MappingMismatch(f"page_key: a value of type {type(key).__name__} cannot be a page key")


def _unpacked(packed: Any) -> Any:
    if isinstance(packed, (str, int)) and not isinstance(packed, bool):
        return packed
    if not isinstance(packed, dict) or len(packed) != 1:
        raise ValueError("not a packed key")
    ((sort, text),) = packed.items()
    readers: Mapping[str, Callable[[str], Any]] = {
        "n": Decimal,
        "t": datetime.fromisoformat,
        "d": date.fromisoformat,
    }
    return readers[sort](text)


def _invalid(detail: str) -> HisRefused:
    return HisRefused(reason_pb2.REASON_INVALID_REQUEST, detail)
