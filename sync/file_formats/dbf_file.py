"""DBF (dBase, FoxPro), as old HIS export it; GBK by default. Deleted records are left out; memo files are not read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import dbf

from sync.file_format import BadFile, FileFault, FileFormat, FileRow, OpenFile, plain

_HEADER: Final = struct.Struct("<B3xIHH")
_SMALLEST: Final = 33
_CODEPAGES: Final = {"utf-8": "utf8", "utf-8-sig": "utf8"}


class DbfFile:
    """See ``FileFormat``."""

    names_columns = True

    def rows(self, file: OpenFile) -> Iterator[FileRow]:
        _look(file)
        codepage = _CODEPAGES.get(file.encoding, "cp936")
        try:
            table = dbf.Table(str(file.path), codepage=codepage).open(dbf.READ_ONLY)
        except Exception as error:  # noqa: BLE001 - library border: of a damaged table it raises anything, NameError too
            _let_go(error)
            raise BadFile(FileFault.SYNTAX, f"the header cannot be read ({type(error).__name__})") from None
        try:
            names = [str(name) for name in table.field_names]
            for number in range(1, len(table) + 1):
                try:
                    record = table[number - 1]
                    if dbf.is_deleted(record):
                        continue
                    values = {name.casefold(): _value(record[name]) for name in names}
                except Exception as error:  # noqa: BLE001 - library border: one damaged record is told, others count
                    yield FileRow(number, {}, f"the record cannot be read ({type(error).__name__})")
                    continue
                yield FileRow(number, values)
        finally:
            table.close()


def _let_go(error: Exception) -> None:
    """Close what the library leaves open when it refuses a header: Windows moves no file that is open."""
    trace = error.__traceback__
    while trace is not None:
        stream = getattr(trace.tb_frame.f_locals.get("meta"), "dfd", None)
        if stream is not None:
            stream.close()
        trace = trace.tb_next


def _look(file: OpenFile) -> None:
    """The header says how long the file must be. Raises BadFile."""
    with file.path.open("rb") as stream:
        head = stream.read(_HEADER.size)
    if file.size < _SMALLEST:
        raise BadFile(FileFault.INCOMPLETE, "shorter than a header")
    _, records, header, length = _HEADER.unpack(head)
    if header < _SMALLEST - 1 or length < 2:
        raise BadFile(FileFault.SYNTAX, "no header of a DBF")
    if file.size < header + records * length:
        raise BadFile(FileFault.INCOMPLETE, f"the header says {records} records")


def _value(value: Any) -> Any:
    return None if value == b"" else plain(value)


FORMAT: FileFormat = DbfFile()
