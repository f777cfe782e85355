"""CSV: a line of names, then rows. Quotes as Excel writes them."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from sync.file_format import BadFile, FileFault, FileFormat, FileRow, OpenFile, plain


class CsvFile:
    """See ``FileFormat``."""

    names_columns = True

    def rows(self, file: OpenFile) -> Iterator[FileRow]:
        with file.path.open(encoding=file.encoding, newline="") as stream:
            reader = csv.reader(stream, delimiter=file.settings.delimiter, strict=True)
            number = 0
            try:
                names = [name.strip().casefold() for name in next(reader, [])]
                if not any(names):
                    raise BadFile(FileFault.INCOMPLETE, "there is no line of names")
                if len(set(names)) < len(names):
                    raise BadFile(FileFault.COLUMNS, "a column stands twice in the line of names")
                last: FileRow | None = None
                for fields in reader:
                    if last is not None:
                        yield last
                        last = None
                    if not any(field.strip() for field in fields):
                        continue
                    number += 1
                    last = _row(number, names, fields)
                if last is not None and last.trouble and not file.ends_line:
                    raise BadFile(FileFault.INCOMPLETE, "the last line breaks off", number)
                if last is not None:
                    yield last
            except csv.Error as error:
                is_short = "unexpected end of data" in str(error)
                raise BadFile(FileFault.INCOMPLETE if is_short else FileFault.SYNTAX, str(error), number + 1) from None
            except UnicodeDecodeError:
                raise BadFile(FileFault.ENCODING, f"a byte that is no {file.encoding}", number + 1) from None


def _row(number: int, names: list[str], fields: list[str]) -> FileRow:
    values = {name: plain(field) for name, field in zip(names, fields, strict=False)}
    if len(fields) == len(names):
        return FileRow(number, values)
    return FileRow(number, values, f"{len(fields)} columns instead of {len(names)}")


FORMAT: FileFormat = CsvFile()
