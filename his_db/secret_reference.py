"""Secrets of mappings, by reference: `@env:NAME`, `@file:path`, `@credential:name` (systemd `LoadCredential=`).

They are read when they are needed, so that a renewed file counts at once. No message repeats a value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from his_db.document.finding import At, Words
from his_db.document.value_shape import MISSING, Shape

# Mappings run from copies, and the agent is started anywhere: a relative path would mean another file each time.
_FORM: Final = re.compile(r"@(?:env:[A-Za-z_]\w*|file:(?:/|[A-Za-z]:[/\\]|\\\\).+|credential:[^/\\]+)")
# What a parameter that takes a password or key is called.
_NAME: Final = re.compile(
    r"(?:^|[-_@])(?:pwd|psw|pass|password|passwd|token|secret|(?:api|app|access)[-_]?key|credentials?|mima|miyao)(?:$|[-_])"
    r"|(?:pwd|password|passwd|secret|apikey|appkey)$",
    re.IGNORECASE,
)
_STAND_IN: Final[ContextVar[str]] = ContextVar("stand_in", default="")
_BEGINS: Final = ("@env:", "@file:", "@credential:")
FORMS: Final = Words(
    "write a reference: @env:NAME, @file:/absolute/path or @credential:name",
    "改写为引用：@env:变量名、@file:/绝对路径 或 @credential:名称",
)


class SecretUnreadable(ValueError):
    """There is no secret behind the reference. The text names the kind of reference, not the secret."""


@dataclass(frozen=True, slots=True)
class Reference(Shape):
    """A reference to a secret; the secret itself is refused and never repeated."""

    def expected(self) -> Words:
        return Words(
            "a reference to a secret (@env:…, @file:…, @credential:…)", "密钥引用（@env:、@file:、@credential:）"
        )

    def fits(self, value: object) -> bool:
        return isinstance(value, str)

    def content(self, value: Any, at: At) -> Any:
        if is_reference(value):
            return value
        if value.startswith("@"):
            message = Words("not a reference to a secret", "不是有效的密钥引用")
        else:
            message = Words("a secret must not be written into a mapping", "密钥不能直接写在映射文件里")
        at.value("H400", message, FORMS)
        return MISSING


def is_reference(text: str) -> bool:
    """Whether the text has the form of a reference."""
    return _FORM.fullmatch(text) is not None


def seems_reference(text: str) -> bool:
    """Whether the text begins as a reference does; it may be none all the same."""
    return text.startswith(_BEGINS)


@contextmanager
def without_secrets(stand_in: str = "***") -> Iterator[None]:
    """Every secret reads so: the tests of a mapping run where there are none."""
    token = _STAND_IN.set(stand_in)
    try:
        yield
    finally:
        _STAND_IN.reset(token)


def names_a_secret(name: str) -> bool:
    """Whether a parameter of that name takes a secret."""
    return _NAME.search(name) is not None


def read_secret(reference: str, environ: Mapping[str, str] | None = None) -> str:
    """All of the text behind a reference. Raises SecretUnreadable."""
    if _STAND_IN.get():
        return _STAND_IN.get()
    kind, _, name = reference.partition(":")
    environ = os.environ if environ is None else environ
    try:
        if kind == "@env":
            found = environ[name]
        elif kind == "@credential":
            found = (Path(environ["CREDENTIALS_DIRECTORY"]) / name).read_text("utf-8-sig")
        else:
            found = Path(name).read_text("utf-8-sig")
    except (KeyError, OSError, UnicodeDecodeError):
        raise SecretUnreadable(f"the secret {kind}:… cannot be read") from None
    if not found.strip():
        raise SecretUnreadable(f"the secret {kind}:… is empty")
    return found


def first_line(reference: str, environ: Mapping[str, str] | None = None) -> str:
    """The first line of a file, without blanks around it; a variable as it is. Raises SecretUnreadable."""
    found = read_secret(reference, environ)
    return found if reference.startswith("@env:") else found.strip().split("\n", 1)[0].strip()
