"""Dropped files read row by row: every format in UTF-8 and GBK, whole, cut off anywhere, and hostile."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import dbf
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync.drop_settings import FORMATS, DropSettings
from sync.file_format import BadFile, FileFault, FileFormat, FileRow, OpenFile
from sync.file_sniff import sniff
from sync.registry import FILE_FORMATS, load

MOST = 10_000_000


def read(path: Path, kind: str, **more: Any) -> list[FileRow]:
    """All rows of a file, as the capture reads it. Raises BadFile."""
    options = DropSettings("test", path.parent, **more)
    found = sniff(path, options.encoding, is_dbf=kind == "dbf", most=MOST)
    reader: FileFormat = load(FILE_FORMATS[kind])
    return list(reader.rows(OpenFile(path, found.size, found.encoding, found.ends_line, options)))


def fault(path: Path, kind: str, **more: Any) -> FileFault:
    with pytest.raises(BadFile) as caught:
        read(path, kind, **more)
    return caught.value.fault


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(content: str | bytes, encoding: str = "utf-8") -> Path:
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return written


Write = Callable[..., Path]
CSV = '订单号,状态,备注\nT1,已取消,"窗口 ""退号"", 全退"\n\n  T2 ,已预约,\n'
ENCODINGS = ["utf-8", "utf-8-sig", "gbk", "utf-16"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_csv(write: Write, encoding: str) -> None:
    one, two = read(write(CSV, encoding), "csv")
    assert one.values == {"订单号": "T1", "状态": "已取消", "备注": '窗口 "退号", 全退'}
    assert two.values == {"订单号": "T2", "状态": "已预约", "备注": None}
    assert (one.number, two.number) == (1, 2)


@pytest.mark.parametrize("encoding", ["utf-8", "gbk"])
def test_an_encoding_that_is_given_is_held_to(write: Write, encoding: str) -> None:
    other = {"utf-8": "gbk", "gbk": "utf-8"}[encoding]
    assert len(read(write(CSV, encoding), "csv", encoding=encoding)) == 2
    assert fault(write("订单号\n测试甲乙\n", other), "csv", encoding=encoding) is FileFault.ENCODING


def test_characters_beyond_gbk(write: Write) -> None:
    """㛃 and 䶮 stand in GB 18030 alone."""
    (row,) = read(write("xm\n㛃䶮\n", "gb18030"), "csv")
    assert row.values == {"xm": "㛃䶮"}


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_csv_with_another_delimiter(write: Write, delimiter: str) -> None:
    (row,) = read(write(f"a{delimiter}b\n1{delimiter}2\n"), "csv", delimiter=delimiter)
    assert row.values == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", FileFault.INCOMPLETE),
        ("\n\n", FileFault.INCOMPLETE),
        ("a,b\n1", FileFault.INCOMPLETE),
        ('a,b\n1,"xyz', FileFault.INCOMPLETE),
        ('a,b\n1,"x"y\n', FileFault.SYNTAX),
        ("a,A\n1,2\n", FileFault.COLUMNS),
        ("a\n" + "x" * 200_000 + "\n", FileFault.SYNTAX),
    ],
)
def test_csv_that_is_none(write: Write, text: str, wanted: FileFault) -> None:
    assert fault(write(text), "csv") is wanted


def test_csv_rows_that_do_not_fit_stand_alone(write: Write) -> None:
    rows = read(write("a,b\n1,2\n1\n1,2,3\n4,5"), "csv")
    assert [bool(row.trouble) for row in rows] == [False, True, True, False]


JSON_ROWS = [{"ddh": "T1", "je": 25.5, "brxx": {"xm": "张三"}, "tags": [1]}, {"DDH": "T2", "je": None, "ok": True}]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("shape", ["list", "lines", "below"])
def test_json(write: Write, encoding: str, shape: str) -> None:
    parts = [json.dumps(row, ensure_ascii=False) for row in JSON_ROWS]
    listed = f"[{', '.join(parts)}]"
    text = {"list": listed, "lines": "\n".join(parts), "below": f'{{"code": 0, "data": {{"rows": {listed}}}}}'}[shape]
    one, two = read(write(text, encoding), "json", row="data.rows" if shape == "below" else "")
    assert one.values == {"ddh": "T1", "je": Decimal("25.5"), "brxx.xm": "张三"}
    assert two.values == {"ddh": "T2", "je": None, "ok": True}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", FileFault.INCOMPLETE),
        ('[{"a": 1}, {"a"', FileFault.INCOMPLETE),
        ('[{"a": 1}', FileFault.INCOMPLETE),
        ('[{"a": 1}, x]', FileFault.SYNTAX),
        ('[{"a": 1}] y', FileFault.SYNTAX),
        ('{"data": []}', FileFault.COLUMNS),
    ],
)
def test_json_that_is_none(write: Write, text: str, wanted: FileFault) -> None:
    row = "elsewhere" if wanted is FileFault.COLUMNS else ""
    assert fault(write(text), "json", row=row) is wanted


def test_json_rows_that_are_no_objects(write: Write) -> None:
    rows = read(write('[1, {"a": 2}, [3]]'), "json")
    assert [bool(row.trouble) for row in rows] == [True, False, True]


XML = """<?xml version="1.0" encoding="{declared}"?>
<msg xmlns="urn:x"><head><time>09:00</time></head>
<rows><row id="1"><DDH>T1</DDH><BRXX><XM sex="2"> 张三 </XM></BRXX><BZ/></row><row id="2"><DDH>T2</DDH></row></rows></msg>"""


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_xml(write: Write, encoding: str) -> None:
    one, two = read(write(XML.format(declared=encoding), encoding), "xml", row="row")
    assert one.values == {"id": "1", "ddh": "T1", "brxx.xm": "张三", "brxx.xm.sex": "2", "bz": None}
    assert two.values == {"id": "2", "ddh": "T2"}


def test_xml_children_of_the_root(write: Write) -> None:
    rows = read(write("<a><r x='1'/><r><x>2</x></r></a>"), "xml")
    assert [row.values for row in rows] == [{"x": "1"}, {"x": "2"}]


BOMB = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]><a><r>&y;</r></a>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a><r>&x;</r></a>'


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", FileFault.INCOMPLETE),
        ("<a><r>", FileFault.INCOMPLETE),
        ("<a><r></a>", FileFault.SYNTAX),
        (BOMB, FileFault.FORBIDDEN),
        (OUTSIDE, FileFault.FORBIDDEN),
        ("<!DOCTYPE a><a><r/></a>", FileFault.FORBIDDEN),
        ("<a>" * 100 + "</a>" * 100, FileFault.FORBIDDEN),
    ],
)
def test_xml_that_is_none(write: Write, text: str, wanted: FileFault) -> None:
    assert fault(write(text), "xml", row="r") is wanted


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A DBF in GBK, one record of three deleted."""
    path = tmp_path_factory.mktemp("dbf") / "x.dbf"
    made = dbf.Table(str(path), "ddh C(12); xm C(10); je N(10,2); rq D; tf L", codepage="cp936", dbf_type="db3")
    made.open(dbf.READ_WRITE)
    made.append(("T1", "张三", 25.5, dt.date(2026, 3, 2), True))
    made.append(("T2", "李四", 1, dt.date(2026, 3, 2), False))
    made.append(("T3", "", None, None, None))
    with made[1] as record:
        dbf.delete(record)
    made.close()
    return path.read_bytes()


@pytest.mark.parametrize("encoding", ["auto", "gbk"])
def test_dbf(write: Write, table: bytes, encoding: str) -> None:
    one, two = read(write(table), "dbf", encoding=encoding)
    assert one.values == {"ddh": "T1", "xm": "张三", "je": Decimal("25.5"), "rq": dt.date(2026, 3, 2), "tf": True}
    assert two.values == {"ddh": "T3", "xm": None, "je": None, "rq": None, "tf": None}


def test_dbf_in_utf_8(write: Write, table: bytes) -> None:
    (one, _) = read(
        write(table.replace("张三".encode("gbk") + b"  ", "张三".encode()).replace("李四".encode("gbk"), b"Lisi")),
        "dbf",
    )
    assert one.values["xm"] == "张三"


def test_dbf_that_is_cut_or_none(write: Write, table: bytes) -> None:
    for size in (1, 20, 40, len(table) - 30):
        assert fault(write(table[:size]), "dbf") is FileFault.INCOMPLETE
    assert fault(write(b"x" * 500), "dbf") in (FileFault.SYNTAX, FileFault.INCOMPLETE)
    assert fault(write(b"\3" + b"\0" * 500), "dbf") is FileFault.SYNTAX


@pytest.mark.parametrize("kind", ["csv", "json", "xml"])
@pytest.mark.parametrize("encoding", ["utf-8", "gbk"])
def test_a_file_cut_off_anywhere_is_never_taken_for_something_else(write: Write, kind: str, encoding: str) -> None:
    """Every prefix is incomplete, or holds whole rows that were really there, or (CSV) a last row that is counted bad.

    What cannot be told from the file is a CSV cut between two rows or within its last value; the capture waits for that.
    """
    text = {
        "csv": "订单号,姓名\nT100,张三丰\nT200,李四光\n",
        "json": '[{"订单号": "T100", "姓名": "张三丰"}, {"订单号": "T200", "姓名": "李四光"}]',
        "xml": "<a><行><订单号>T100</订单号><姓名>张三丰</姓名></行><行><订单号>T200</订单号><姓名>李四光</姓名></行></a>",
    }[kind]
    whole = text.encode(encoding)
    for size in range(1, len(whole)):
        path = write(whole[:size])
        try:
            rows = read(path, kind, encoding=encoding)
        except BadFile as error:
            assert error.fault is FileFault.INCOMPLETE, (size, error)
            continue
        assert kind == "csv", (size, rows)
        for row, name in zip(rows, ("T100", "T200"), strict=False):
            assert name.startswith(row.values.get("订单号") or "T")


@pytest.mark.parametrize("kind", FORMATS)
@given(noise=st.binary(max_size=400), at=st.integers(0, 10_000), kept=st.integers(0, 10_000))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_noise_is_refused_or_read_and_nothing_else(
    write: Write, table: bytes, kind: str, noise: bytes, at: int, kept: int
) -> None:
    """Whatever is written into a good file: rows, or a reason. No other exception, no value in the reason."""
    good = {
        "csv": CSV.encode(),
        "json": json.dumps(JSON_ROWS).encode(),
        "xml": XML.format(declared="utf-8").encode(),
        "dbf": table,
    }[kind]
    content = good[: at % len(good)] + noise + good[kept % len(good) :]
    try:
        rows = read(write(content), kind)
    except BadFile as error:
        assert "张三" not in str(error)
    else:
        assert all(isinstance(row, FileRow) for row in rows)


def test_a_file_that_is_too_large_is_not_read_to_its_end(write: Write) -> None:
    path = write(b"a\n" + b"1\n" * 500_000)
    with pytest.raises(BadFile) as caught:
        sniff(path, "auto", is_dbf=False, most=1000)
    assert caught.value.fault is FileFault.TOO_LARGE


def test_a_large_file_needs_little_memory(write: Write) -> None:
    import tracemalloc

    rows = 20_000
    path = write("a,b\n" + "x,y\n" * rows)
    found = sniff(path, "auto", is_dbf=False, most=MOST)
    reader: FileFormat = load(FILE_FORMATS["csv"])
    tracemalloc.start()
    try:
        count = sum(1 for _ in reader.rows(OpenFile(path, found.size, found.encoding, True, DropSettings("x", path))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == rows
    assert peak < 500_000


def test_a_damaged_table_is_left_closed(write: Write, table: bytes) -> None:
    """Or Windows would not move it into quarantine."""
    path = write(table[:32] + b"\xff" * 11 + b"?" + table[44:])
    reader: FileFormat = load(FILE_FORMATS["dbf"])
    with pytest.raises(BadFile) as caught:
        next(reader.rows(OpenFile(path, len(table), "gbk", True, DropSettings("x", path))))
    assert caught.value.fault is FileFault.SYNTAX
    assert str(path) not in {opened.path for opened in psutil.Process().open_files()}
