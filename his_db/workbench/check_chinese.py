"""Chinese text in mapped columns: whether what the HIS stores arrives as Chinese.

The charset of the connection may be right and the data not: GBK bytes in a latin1 column of MySQL, UTF-8 that went
through a GBK client. Names of departments, doctors, sessions are looked at; personal fields never.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

from his_db.catalogue.model import Catalogue
from his_db.contract import is_personal
from his_db.document.finding import Words
from his_db.document.problem import Problems
from his_db.engine import Fault, Session
from his_db.mapping.convert_in import Convert, Unconvertible, converter
from his_db.mapping.finding import Reporter
from his_db.mapping.model import FieldSpec, OperationMapping, ResultSpec, WatchMapping
from his_db.mapping.paths import resolve
from his_db.workbench.code_census import census_sql
from his_db.workbench.coded_fields import CodeColumn, columns_of
from his_db.workbench.site import Connection
from his_db.workbench.usage import Use, row_descriptor

ROWS: Final = 200
_SECONDS: Final = 5
_COLUMNS: Final = 12  # of one source
_NAMES: Final = ("name", "title", "location", "introduction")


@dataclass(frozen=True, slots=True)
class ChineseColumn:
    """A column that names things to people. ``texts``: different values seen; ``chinese``: with Chinese in them."""

    where: str
    texts: int
    chinese: int
    damage: Words | None = None


@dataclass(frozen=True, slots=True)
class _Named:
    use: Use
    spec: FieldSpec
    convert: Convert


def check_chinese(
    connection: Connection, uses: Sequence[Use], catalogue: Catalogue, problems: Problems
) -> tuple[ChineseColumn, ...]:
    """Look at up to a dozen columns. Columns that cannot be read are the business of other checks."""
    named: dict[CodeColumn, _Named] = {}
    for use in uses:
        for column, field in _named_columns(use, catalogue):
            named.setdefault(column, field)
    if not named:
        return ()
    engine = connection.engine
    found: list[ChineseColumn] = []
    try:
        session = engine.open(read_only=True, statement_timeout=timedelta(seconds=_SECONDS))
    except engine.driver_errors as error:
        raise connection.failed(error) from None
    try:
        for column, field in list(named.items())[:_COLUMNS]:
            looked = _look(connection, session, column, field)
            if looked is None:
                continue
            found.append(looked)
            if looked.damage is not None:
                _report(field, looked, problems)
    finally:
        session.close()
    return tuple(found)


def _look(connection: Connection, session: Session, column: CodeColumn, field: _Named) -> ChineseColumn | None:
    """None: no right, no such column, a type that cannot be grouped, which is the business of other checks."""
    engine = connection.engine
    try:
        rows = session.run(census_sql(engine.name, column, ROWS), {}, max_rows=ROWS).rows
    except UnicodeError:
        is_unreadable = True
    except engine.driver_errors as error:
        fault = engine.classify(error, sent=True)
        if fault in {Fault.CONNECT, Fault.LOST} or not session.alive():
            raise connection.failed(error) from None
        # A statement without binds or conversions: PostgreSQL refuses nothing but the bytes themselves (22021).
        is_unreadable = fault is Fault.DATA and engine.name == "postgresql"
    else:
        return looked_at(column.where, [text for row in rows if (text := _text(field, row[0]))])
    if not is_unreadable:
        return None
    what = Words("bytes that are not of the charset that the database says", "存的字节不属于数据库声明的字符集")
    return ChineseColumn(column.where, 0, 0, what)


def looked_at(where: str, texts: Sequence[str]) -> ChineseColumn:
    """What these texts of one column say about its charset."""
    return ChineseColumn(where, len(texts), sum(map(_has_chinese, texts)), damage_of(texts))


def damage_of(texts: Iterable[str]) -> Words | None:
    """How Chinese was lost on its way, judged by all texts together: one alone may look like anything."""
    found = [text for text in texts if not text.isascii() or "??" in text]
    if not found:
        return None
    lost = [text for text in found if "\ufffd" in text or "锟斤拷" in text or "??" in text]
    if len(lost) * 2 > len(found):
        return Words("question marks in place of Chinese", "中文变成了问号")
    latin = [text for text in found if not _has_chinese(text) and any("\x80" <= char <= "\xff" for char in text)]
    if len(latin) * 2 > len(found):
        return Words("bytes of Chinese read as Western letters", "中文的字节被当作西文读出（乱码）")
    if len([text for text in found if _is_utf8_read_as_gbk(text)]) * 2 > len(found) > 1:
        return Words("UTF-8 that was read as GBK", "UTF-8 被当作 GBK 读出（乱码）")
    return None


def _is_utf8_read_as_gbk(text: str) -> bool:
    try:
        return text.encode("gb18030").decode("utf-8") != text
    except UnicodeError:
        return False


def _has_chinese(text: str) -> bool:
    return any("\u3400" <= char <= "\u9fff" for char in text)


def _text(field: _Named, value: object) -> str:
    try:
        found = field.convert(value)
    except Unconvertible:
        return ""
    return found if isinstance(found, str) else ""


def _named_columns(use: Use, catalogue: Catalogue) -> Iterator[tuple[CodeColumn, _Named]]:
    mapping = use.mapping
    if not isinstance(mapping, OperationMapping | WatchMapping):
        return
    results: tuple[ResultSpec, ...] = (mapping.result,) if isinstance(mapping, WatchMapping) else mapping.results
    for result in results:
        descriptor = row_descriptor(mapping, result)
        for spec in result.fields:
            path = resolve(descriptor, spec.to)
            if not path or not spec.column or spec.codes or spec.contains or any(is_personal(item) for item in path):
                continue
            if path[-1].type != path[-1].TYPE_STRING or not path[-1].name.endswith(_NAMES):
                continue
            convert = converter(path[-1], spec, mapping.site.codes, ZoneInfo(mapping.site.timezone))
            for column in columns_of(use, result, spec.column, catalogue):
                yield column, _Named(use, spec, convert)


def _report(field: _Named, column: ChineseColumn, problems: Problems) -> None:
    assert column.damage is not None
    report = Reporter(field.use.document, problems)
    message = Words(f"{column.where}: {column.damage.en}", f"{column.where}：{column.damage.zh}")
    fix = Words(
        'set the charset of the connection in [source.<name>.options], or charset = "gbk" on the field when the HIS '
        "keeps raw GBK bytes",
        '请在 [source.<name>.options] 设置连接字符集；HIS 存的是 GBK 原始字节时，在该字段写 charset = "gbk"',
    )
    report.warn("H516", (*field.spec.path, "column"), message, fix)
