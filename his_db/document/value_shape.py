"""Shapes of single values: text, numbers, true/false, durations, paths. `his_db.document.shape` builds on them."""

from __future__ import annotations

import abc
import enum
import math
import re
from collections.abc import Collection, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from his_db.document.duration import format_duration, parse_duration
from his_db.document.finding import NOTHING, At, Words, listed, nearest, show


class _Missing(enum.Enum):
    MISSING = "missing"


MISSING: Final = _Missing.MISSING
"""No value: a Field without a default, or a value that was reported as bad."""


class Shape(abc.ABC):
    """What one value must be. A new shape implements the three abstract methods."""

    __slots__ = ()

    @abc.abstractmethod
    def expected(self) -> Words:
        """What a value of this shape is called."""

    @abc.abstractmethod
    def fits(self, value: object) -> bool:
        """Whether the type of `value` is right; its content may still be wrong."""

    @abc.abstractmethod
    def content(self, value: Any, at: At) -> Any:
        """The converted value, or MISSING after a report. `value` fits."""

    def remedy(self, value: object, at: At) -> Words:
        """What to do when `value` does not fit."""
        return NOTHING

    def blank(self) -> Any:
        """A value that stands for a bad or missing one, so that the rest of a document can be looked at."""
        return ""

    def check(self, value: object, at: At) -> Any:
        """The converted value, or MISSING after a report."""
        checked = self._checked(value, at)
        if checked is MISSING:
            at.damage.add(at.path)
        return checked

    def _checked(self, value: object, at: At) -> Any:
        if self.fits(value):
            return self.content(value, at)
        wanted, found = self.expected(), at.found(value)
        message = Words(f"expected {wanted.en}, found {found.en}", f"这里应当是{wanted.zh}，实际是{found.zh}")
        at.value("H122", message, self.remedy(value, at))
        return MISSING


@dataclass(frozen=True, slots=True)
class Text(Shape):
    """A string. `pattern` must match the whole of it; the hints say in words what the pattern wants."""

    pattern: str | None = None
    choices: Collection[str] | None = None
    min_length: int = 0
    pattern_hint: str = ""
    pattern_hint_zh: str = ""

    def blank(self) -> Any:
        return self.names()[0] if self.choices else ""

    def expected(self) -> Words:
        if self.choices is None:
            return Words("text", "文本")
        names = listed(self.names(), quote=True)
        return Words(f"one of {names}", f"以下之一：{names}")

    def names(self) -> tuple[str, ...]:
        """The choices, in the order they are shown."""
        choices = self.choices or ()
        return tuple(sorted(choices) if isinstance(choices, Set) else choices)

    def fits(self, value: object) -> bool:
        return isinstance(value, str)

    def remedy(self, value: object, at: At) -> Words:
        if isinstance(value, (list, dict)):
            return NOTHING
        quoted = '"…"' if at.secret else f'"{show(value)}"'
        return Words(f"write it in quotes: {quoted}", f"加上英文双引号：{quoted}")

    def content(self, value: Any, at: At) -> Any:
        found = at.quoted(value)
        if self.choices is not None and value not in self.choices:
            wanted, close = self.expected(), nearest(value, self.names())
            message = Words(f"{found.en} is not {wanted.en}", f"{found.zh} 不是{wanted.zh}")
            at.value("H123", message, perhaps(close))
            if not close or not at.blanks:
                return MISSING
            at.damage.add(at.path)
            return close
        if len(value) < self.min_length:
            at.value("H126", *_too_short(value, self.min_length))
            return MISSING
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            hint = self.pattern_hint or f"the form {self.pattern}"
            hint_zh = self.pattern_hint_zh or self.pattern_hint or f"格式 {self.pattern}"
            message = Words(f"{found.en} does not have the required form", f"{found.zh} 格式不对")
            at.value("H124", message, Words(f"expected: {hint}", f"应为：{hint_zh}"))
            return MISSING
        return value


@dataclass(frozen=True, slots=True)
class Integer(Shape):
    """A whole number, from `minimum` to `maximum`, both included."""

    minimum: int | None = None
    maximum: int | None = None

    def blank(self) -> Any:
        return self.minimum or 0

    def expected(self) -> Words:
        return Words("a whole number", "整数")

    def fits(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    def remedy(self, value: object, at: At) -> Words:
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value):
            return Words("remove the quotes", "去掉引号")
        return NOTHING

    def content(self, value: Any, at: At) -> Any:
        low = None if self.minimum is None else str(self.minimum)
        high = None if self.maximum is None else str(self.maximum)
        is_low = self.minimum is not None and value < self.minimum
        is_high = self.maximum is not None and value > self.maximum
        return _within(value, show(value), at, low, high) if is_low or is_high else value


@dataclass(frozen=True, slots=True)
class Boolean(Shape):
    """true or false."""

    def blank(self) -> Any:
        return False

    def expected(self) -> Words:
        return Words("true or false", "true（是）或 false（否）")

    def fits(self, value: object) -> bool:
        return isinstance(value, bool)

    def remedy(self, value: object, at: At) -> Words:
        yes, no = {"true", "yes", "on", "1", "t", "y", "是"}, {"false", "no", "off", "0", "f", "n", "否"}
        word = str(value).casefold() if isinstance(value, str) or value in (0, 1) else ""
        right = "true" if word in yes else "false" if word in no else ""
        if not right:
            return Words("write true or false, without quotes", "写成 true 或 false，不加引号")
        return Words(f"write {right}, without quotes", f"写成 {right}，不加引号")

    def content(self, value: Any, at: At) -> Any:
        return value


@dataclass(frozen=True, slots=True)
class Number(Shape):
    """A whole or decimal number; not inf, not nan."""

    def blank(self) -> Any:
        return 0

    def expected(self) -> Words:
        return Words("a number", "数字")

    def fits(self, value: object) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    def remedy(self, value: object, at: At) -> Words:
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]+(?:\.[0-9]+)?\s*", value):
            return Words("remove the quotes", "去掉引号")
        return NOTHING

    def content(self, value: Any, at: At) -> Any:
        if isinstance(value, int) or math.isfinite(value):
            return value
        at.value("H125", Words("the number must be finite", "不能是无穷大（inf）或非数字（nan）"))
        return MISSING


@dataclass(frozen=True, slots=True)
class Duration(Shape):
    """Text such as "500ms", "3s", "5m", "1h", "2d" -> timedelta, from `minimum` to `maximum`, both included."""

    minimum: timedelta | None = None
    maximum: timedelta | None = None

    def blank(self) -> Any:
        return self.minimum or timedelta(seconds=1)

    def expected(self) -> Words:
        return Words('a duration such as "500ms", "3s" or "5m"', '时长（如 "500ms"、"3s"、"5m"）')

    def fits(self, value: object) -> bool:
        return isinstance(value, str)

    def remedy(self, value: object, at: At) -> Words:
        if isinstance(value, int) and not isinstance(value, bool):
            shown = "…" if at.secret else show(value)
            return Words(
                f'write the unit, in quotes: "{shown}s" for seconds, "{shown}ms" for milliseconds',
                f'加上单位和英文双引号："{shown}s" 表示秒，"{shown}ms" 表示毫秒',
            )
        return _DURATION_FIX

    def content(self, value: Any, at: At) -> Any:
        try:
            duration = parse_duration(value)
        except ValueError:
            found = at.quoted(value)
            at.value("H127", Words(f"{found.en} is not a duration", f"{found.zh} 不是有效的时长"), _DURATION_FIX)
            return MISSING
        low = None if self.minimum is None else format_duration(self.minimum)
        high = None if self.maximum is None else format_duration(self.maximum)
        is_low = self.minimum is not None and duration < self.minimum
        is_high = self.maximum is not None and duration > self.maximum
        return _within(duration, show(value), at, low, high) if is_low or is_high else duration


@dataclass(frozen=True, slots=True)
class FilePath(Shape):
    """The path of a file or folder, as text; whether it exists is not looked at. Stays a `str`."""

    def expected(self) -> Words:
        return Words("a file path in quotes", "加引号的文件路径")

    def fits(self, value: object) -> bool:
        return isinstance(value, str)

    def content(self, value: Any, at: At) -> Any:
        if not value.strip():
            at.value("H130", Words("the path is empty", "路径为空"), Words("write the path", "填写路径"))
            return MISSING
        if value.isprintable() or not any(ord(char) < ord(" ") for char in value):
            return value
        # "C:\temp\new" is valid TOML: a tab and a line end.
        message = Words(
            "the path contains a control character: in double quotes \\t and \\n are a tab and a line end",
            "路径中含有控制字符：双引号里的 \\t、\\n 会变成制表符、换行",
        )
        at.value("H130", message, Words(r"use single quotes: 'C:\temp\new'", r"改用单引号：'C:\temp\new'"))
        return MISSING


@dataclass(frozen=True, slots=True)
class AnyValue(Shape):
    """Anything."""

    def expected(self) -> Words:
        return Words("any value", "任意值")

    def fits(self, value: object) -> bool:
        return True

    def content(self, value: Any, at: At) -> Any:
        return value


@dataclass(frozen=True, slots=True)
class Scalar(Shape):
    """One text, number, boolean, date or time: no list, no table."""

    def expected(self) -> Words:
        return Words(
            "a single value (text, number, true/false, date or time)", "单个值（文本、数字、true/false、日期或时间）"
        )

    def fits(self, value: object) -> bool:
        return not isinstance(value, (list, dict))

    def content(self, value: Any, at: At) -> Any:
        return value


_DURATION_FIX: Final = Words(
    'write a whole number and a unit (ms, s, m, h, d), in quotes: "500ms", "3s", "5m", "1h", "2d"',
    '写成整数加单位（ms 毫秒、s 秒、m 分、h 小时、d 天）并加引号，如 "500ms"、"3s"、"5m"、"1h"、"2d"',
)


def _within(value: Any, shown: str, at: At, low: str | None, high: str | None) -> Any:
    """Report a value outside its limits."""
    found = Words("the value", "这个值") if at.secret else Words(shown, shown)
    if low is not None and high is not None:
        limits = Words(f"must be from {low} to {high}", f"必须在 {low} 到 {high} 之间")
    elif low is not None:
        limits = Words(f"must be at least {low}", f"不能小于 {low}")
    else:
        limits = Words(f"must be at most {high}", f"不能大于 {high}")
    at.value("H125", Words(f"{found.en} is out of range: it {limits.en}", f"{found.zh} 超出范围：{limits.zh}"))
    return MISSING


def _too_short(value: str, minimum: int) -> tuple[Words, Words]:
    if not value:
        return Words("the text is empty", "文本为空"), Words("write a text here", "请填写内容")
    words = Words(
        f"{len(value)} characters, at least {minimum} needed", f"至少要 {minimum} 个字符，现有 {len(value)} 个"
    )
    return words, NOTHING


def perhaps(name: str, *, quote: bool = True) -> Words:
    if not name:
        return NOTHING
    shown = show(name) if quote else name
    return Words(f"did you mean {shown}?", f"是否想写 {shown}？")
