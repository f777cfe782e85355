"""Declarative shapes: what a document may hold, checked in one pass that reports every problem.

    SHAPE = TableOf({
        "operation": Field(Text(pattern=r"\\w+\\.\\w+"), required=True),
        "timeout": Field(Duration(minimum=timedelta(milliseconds=50)), default=timedelta(seconds=3)),
        "params": Field(ListOf(PARAM)),
    })
    values = check_shape(document, SHAPE, problems)

`check_shape` returns converted values: a Duration is a `timedelta`, everything else is what TOML gave (a FilePath
stays a `str`), defaults are filled in, and bad values are left out, or replaced by blanks for a check that goes on.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from his_db.document.duration import format_duration, parse_duration
from his_db.document.finding import NOTHING, At, Outer, Words, alternatives, listed, nearest, show
from his_db.document.located import Document, Path
from his_db.document.problem import Problems
from his_db.document.value_shape import (
    MISSING,
    AnyValue,
    Boolean,
    Duration,
    FilePath,
    Integer,
    Number,
    Scalar,
    Shape,
    Text,
    perhaps,
)

__all__ = [
    "MISSING",
    "AnyValue",
    "Boolean",
    "Duration",
    "Field",
    "FilePath",
    "Integer",
    "ListOf",
    "MapOf",
    "Number",
    "OneOf",
    "Scalar",
    "Shape",
    "TableOf",
    "Text",
    "check_shape",
    "format_duration",
    "parse_duration",
]


@dataclass(frozen=True, slots=True)
class ListOf(Shape):
    """A list whose items all have one shape; bad items are left out of the result."""

    item: Shape
    min_items: int = 0
    max_items: int | None = None

    def expected(self) -> Words:
        item = self.item.expected()
        return Words(f"a list [ ... ] of {item.en}", f"列表 [ ... ]，每一项是{item.zh}")

    def fits(self, value: object) -> bool:
        return isinstance(value, list)

    def remedy(self, value: object, at: At) -> Words:
        if isinstance(value, dict) and self.item.fits(value):
            name = at.name()
            return Words(
                f"write [[{name}]] with double brackets, or {name} = [ {{ ... }} ]", f"改用双方括号 [[{name}]]"
            )
        if self.item.fits(value):
            shown = "…" if at.secret else show(value)
            return Words(f"put it in brackets: [{shown}]", f"加上方括号：[{shown}]")
        return NOTHING

    def blank(self) -> Any:
        return []

    def content(self, value: Any, at: At) -> Any:
        count = len(value)
        if count < self.min_items:
            at.value(
                "H126",
                Words(
                    f"{count} items, at least {self.min_items} needed", f"至少要有 {self.min_items} 项，现有 {count} 项"
                ),
            )
            at.damage.add(at.path)
        if self.max_items is not None and count > self.max_items:
            at.value(
                "H126",
                Words(f"{count} items, at most {self.max_items} allowed", f"最多 {self.max_items} 项，现有 {count} 项"),
            )
        checked = [self.item.check(item, at.child(index)) for index, item in enumerate(value)]
        if at.blanks:  # none is left out, so that the places of the others stay right
            return [self.item.blank() if item is MISSING else item for item in checked]
        return [item for item in checked if item is not MISSING]


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a table.

    An absent key gets a copy of `default`, which is a converted value (a timedelta, not "3s"); without a default it
    stays absent. A mapping as the default of a TableOf is completed with that table's own defaults, so `default={}`
    means "as if the table were there, empty". `secret`: its value is never repeated in a message.
    """

    shape: Shape
    required: bool = False
    default: Any = MISSING
    doc: str = ""
    doc_zh: str = ""
    secret: bool = False

    def filled(self) -> Any:
        """The value of an absent key, or MISSING."""
        if isinstance(self.shape, TableOf) and isinstance(self.default, Mapping):
            return self.shape.defaults() | copy.deepcopy(dict(self.default))
        return self.default if self.default is MISSING else copy.deepcopy(self.default)

    def blank(self) -> Any:
        """What stands for a bad or missing value. Of an optional choice nothing: what is usual depends on the rest."""
        if self.default is not MISSING:
            return self.filled()
        is_choice = isinstance(self.shape, Text) and bool(self.shape.choices)
        return MISSING if is_choice and not self.required else self.shape.blank()


@dataclass(frozen=True, slots=True)
class TableOf(Shape):
    """A table with known keys. Other keys are a problem, or have the shape `extra` when there is one."""

    fields: Mapping[str, Field]
    extra: Shape | None = field(default=None, kw_only=True)

    def expected(self) -> Words:
        return Words("a table", "表（名称与值的集合）")

    def fits(self, value: object) -> bool:
        return isinstance(value, dict)

    def remedy(self, value: object, at: At) -> Words:
        return _table_fix(value, at)

    def blank(self) -> Any:
        required = {name: known.shape.blank() for name, known in self.fields.items() if known.required}
        return {**required, **self.defaults()}

    def defaults(self) -> dict[str, Any]:
        """The values of a table that is there and empty, its required keys apart."""
        filled = {name: known.filled() for name, known in self.fields.items()}
        return {name: value for name, value in filled.items() if value is not MISSING}

    def content(self, value: Any, at: At) -> Any:
        outer = Outer(at.path, frozenset(name for name in self.fields if name not in value))
        result: dict[str, Any] = {}
        for name, known in self.fields.items():
            if name in value:
                result[name] = known.shape.check(value[name], at.child(name, secret=known.secret, outer=outer))
            else:
                result[name] = known.filled()
                if known.required:
                    self._report_missing(name, known, at)
            if result[name] is MISSING and at.blanks and (name in value or known.required):
                result[name] = known.blank()
        for name in value:
            if name in self.fields:
                continue
            if self.extra is None:
                self._report_unknown(name, value, at)
            else:
                result[name] = self.extra.check(value[name], at.child(name, outer=outer))
        return {name: item for name, item in result.items() if item is not MISSING}

    def _report_missing(self, name: str, known: Field, at: At) -> None:
        path = (*at.path, name)
        if at.damage.hides(path) or at.damage.hides(at.path):
            return  # it is there, and could not be read
        at.damage.add(path)
        doc = f" ({known.doc})" if known.doc else ""
        doc_zh = f"（{known.doc_zh or known.doc}）" if known.doc_zh or known.doc else ""
        where = Words(f" in {at.name()}", f"{at.name()} 中") if at.path else NOTHING
        wanted = known.shape.expected()
        message = Words(f"the required key {name} is missing{where.en}{doc}", f"{where.zh}缺少必填项 {name}{doc_zh}")
        at.key("H121", message, Words(f"add {name} = {wanted.en}", f"补上 {name} = …，值为{wanted.zh}"))

    def _report_unknown(self, name: str, value: Mapping[str, Any], at: At) -> None:
        shown = show(name)
        message = Words(f"unknown key {shown}", f"不认识的名称 {shown}")
        owner = next((outer for outer in reversed(at.outer) if name in outer.names), None)
        if owner is not None:
            at.child(name).key("H120", message, _belongs_to(owner, name))
            at.damage.add((*owner.path, name))
            return
        # A name that is not there yet was meant more often than one that is.
        absent = [known for known in self.fields if known not in value]
        close = nearest(name, absent) or nearest(name, self.fields)
        if close in absent:
            at.damage.add((*at.path, close))  # it probably is what stands here
        names = listed(tuple(self.fields))
        known_names = Words(f"the keys known here are {names}", f"这里可用的名称：{names}") if names else NOTHING
        at.child(name).key("H120", message, perhaps(close, quote=False) if close else known_names)


@dataclass(frozen=True, slots=True)
class MapOf(Shape):
    """A table with keys of the writer's choice and values of one shape; `key_pattern` must match a whole key."""

    value: Shape
    key_pattern: str | None = None

    def expected(self) -> Words:
        return Words("a table", "表（名称与值的集合）")

    def fits(self, value: object) -> bool:
        return isinstance(value, dict)

    def remedy(self, value: object, at: At) -> Words:
        return _table_fix(value, at)

    def blank(self) -> Any:
        return {}

    def content(self, value: Any, at: At) -> Any:
        result: dict[str, Any] = {}
        for name, item in value.items():
            below = at.child(name)
            if self.key_pattern is not None and re.fullmatch(self.key_pattern, name) is None:
                message = Words(f"the key {show(name)} does not have the required form", f"名称 {show(name)} 格式不对")
                form = Words(f"expected: the form {self.key_pattern}", f"应为：格式 {self.key_pattern}")
                below.key("H129", message, form)
                at.damage.add(below.path)
                continue
            checked = self.value.check(item, below)
            if checked is not MISSING:
                result[name] = checked
        return result


@dataclass(frozen=True, slots=True, init=False)
class OneOf(Shape):
    """The first of several shapes that has nothing to object to."""

    shapes: tuple[Shape, ...]

    def __init__(self, *shapes: Shape) -> None:
        object.__setattr__(self, "shapes", shapes)

    def blank(self) -> Any:
        return self.shapes[0].blank()

    def expected(self) -> Words:
        return alternatives(shape.expected() for shape in self.shapes)

    def fits(self, value: object) -> bool:
        return any(shape.fits(value) for shape in self.shapes)

    def remedy(self, value: object, at: At) -> Words:
        remedies = (shape.remedy(value, at) for shape in self.shapes)
        return next((words for words in remedies if words != NOTHING), NOTHING)

    def content(self, value: Any, at: At) -> Any:
        tried: list[tuple[Any, At]] = []
        for shape in self.shapes:
            if not shape.fits(value):
                continue
            scratch = at.scratch()
            result = shape.check(value, scratch)
            if not scratch.problems:
                at.problems.extend(scratch.problems)
                return result
            tried.append((result, scratch))
        if len(tried) == 1 or isinstance(value, (list, dict)):
            result, least = min(tried, key=lambda attempt: _distance(attempt[1].problems))
            at.problems.extend(least.problems)
            at.damage.extend(least.damage)
            return result
        found, wanted = at.quoted(value) if isinstance(value, str) else at.found(value), self.expected()
        choices = [name for shape in self.shapes if isinstance(shape, Text) for name in shape.names()]
        message = Words(f"{found.en} is not {wanted.en}", f"{found.zh} 不是{wanted.zh}")
        at.value("H128", message, perhaps(nearest(str(value), choices)) if isinstance(value, str) else NOTHING)
        return MISSING


def check_shape(
    document: Document, shape: TableOf, problems: Problems, *, path: Path = (), blanks: bool = False
) -> dict[str, Any]:
    """The converted values of the table at `path`; every problem goes to `problems`, none is raised.

    A table that is not there is checked as an empty one. Bad values are left out, so read the result with care (or not
    at all) while `problems` is true. `blanks`: bad and missing required values are blank instead, so that everything
    which the shape promises is there; `document.damage` knows which they are.
    """
    value: Any = document.data
    for part in path:
        is_there = part in value if isinstance(value, dict) else isinstance(value, list) and part in range(len(value))
        value = value[part] if is_there else {}
    result = shape.check(value, At(document, problems, path, damage=document.damage, blanks=blanks))
    if result is MISSING:
        return dict(shape.blank()) if blanks else {}
    return dict(result)


def _distance(problems: Problems) -> tuple[int, int]:
    """How far a value is from an alternative, the nearest of which was meant.

    Keys and choices of another alternative count first; a missing key or a bad value happens in the right one too.
    """
    errors = problems.errors
    return sum(problem.code in {"H120", "H123"} for problem in errors), len(errors)


def _belongs_to(owner: Outer, name: str) -> Words:
    """The usual slip of TOML: a setting written below a [table] header belongs to that table."""
    if not owner.path:
        return Words(
            f"{name} belongs to the top of the file: move it above the first [table]",
            f"{name} 属于文件顶层：请移到文件中第一个 [表头] 之前",
        )
    table = ".".join(str(part) for part in owner.path if isinstance(part, str))
    return Words(f"{name} belongs to {table}: move it there", f"{name} 属于 {table}：请移到那里")


def _table_fix(value: object, at: At) -> Words:
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        name = at.name()
        return Words(f"write [{name}] with single brackets, once", f"改用单方括号 [{name}]，只写一次")
    name = at.name() or "name"
    return Words(f"write [{name}] with its settings below it", f"写成表头 [{name}]，设置写在它下面")
