"""The port to reading dropped files row by row, in flat memory. Implementations: ``sync/file_formats/*.py``, listed in
``sync/registry.py``."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from sync.drop_settings import DropSettings


class FileFault(enum.Enum):
    """Why a file as a whole cannot be taken. The value is Chinese and English, for people."""

    FORMAT = "不认识的文件格式 / no known format"
    ENCODING = "字符编码既不是 UTF-8 也不是 GBK / neither UTF-8 nor GBK"
    SYNTAX = "内容不符合格式 / not valid in its format"
    INCOMPLETE = "文件不完整 / the file is not complete"
    COLUMNS = "缺少映射需要的列 / columns that the mapping needs are missing"
    FORBIDDEN = "含有不允许的内容（DTD、实体）/ holds what is not allowed (DTD, entities)"
    TOO_LARGE = "文件过大 / too large"
    TOO_MANY = "行数过多 / too many rows"
    UNREADABLE = "无法读取（权限，或仍被占用）/ cannot be read (rights, or still in use)"
    NO_FILE = "不是普通文件 / no regular file"


class BadFile(Exception):
    """``row``: where, counted from 1; 0 when it is the whole. ``detail`` is English and holds no value of the file."""

    def __init__(self, fault: FileFault, detail: str = "", row: int = 0) -> None:
        super().__init__(f"{fault.name}{f' at row {row}' if row else ''}: {detail}")
        self.fault = fault
        self.detail = detail
        self.row = row


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row. ``values`` by column name in lower case; texts are trimmed, an empty one is None. ``trouble``: why the
    row cannot be used (English, no value); others can."""

    number: int
    values: Mapping[str, Any] = field(repr=False)
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file to read, and what was found out about it. ``ends_line``: its last byte is a line feed."""

    path: Path
    size: int
    encoding: str
    ends_line: bool
    settings: DropSettings


class FileFormat(Protocol):
    """Reads one format. A module's ``FORMAT``. ``names_columns``: each row has every column of the file."""

    names_columns: bool

    def rows(self, file: OpenFile) -> Iterator[FileRow]:
        """All rows, one by one. Raises BadFile, OSError."""


def plain(value: Any) -> Any:
    """A value as a driver would give it: texts trimmed, an empty one None, a float as the number that was meant."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float):
        return Decimal(repr(value))
    return value
