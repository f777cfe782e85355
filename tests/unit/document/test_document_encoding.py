from __future__ import annotations

import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from his_db.document.located import load_document, parse_document
from his_db.document.problem import DocumentError, Place, Problem

GOOD = '# 说明\nname = "号源"\n'


def refused(raw: str | bytes) -> Problem:
    with pytest.raises(DocumentError) as caught:
        parse_document(raw, "f.toml")
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


@pytest.mark.parametrize("raw", [GOOD, GOOD.encode(), GOOD.encode("utf-8-sig"), "\ufeff" + GOOD])
def test_utf8_with_or_without_mark(raw: str | bytes) -> None:
    document = parse_document(raw, "f.toml")
    assert document.data == {"name": "号源"}
    assert document.place(("name",)) == Place("f.toml", 2, 1)


def test_the_mark_does_not_shift_the_first_line() -> None:
    assert parse_document(b'\xef\xbb\xbfa = "x"', "f").value_place(("a",)) == Place("f", 1, 5)


@pytest.mark.parametrize("raw", ["", b"", b"\xef\xbb\xbf", "\r\n", "# 只有注释"])
def test_an_empty_file_is_an_empty_document(raw: str | bytes) -> None:
    document = parse_document(raw, "f")
    assert document.data == {}
    assert document.place(("missing", 0)) == Place("f", 1, 1)


@pytest.mark.parametrize(
    ("raw", "code", "line", "column", "says"),
    [
        (b"a = 1\r\n" + 'b = "号源已满"'.encode("gbk"), "H102", 2, 6, "号源已满"),
        ("# 科室\n".encode("gb18030"), "H102", 1, 3, "科室"),
        (GOOD.encode("utf-16"), "H103", 1, 1, "UTF-16"),
        (b"\xfe\xff" + GOOD.encode("utf-16-be"), "H103", 1, 1, "UTF-16"),
        (GOOD.encode("utf-32"), "H103", 1, 1, "UTF-32"),
        (b"timeout = 1\n".decode().encode("utf-16-le"), "H103", 1, 2, "UTF-16"),
        (b"timeout = 1\n".decode().encode("utf-16-be"), "H103", 1, 1, "UTF-16"),
        ('# 科室\nb = "'.encode() + "号源".encode("gbk") + b'"', "H104", 2, 6, "混用"),
        (b'a = "\xff\xff"', "H104", 1, 6, "0xFF"),
        ('a = "科室'.encode()[:-1], "H104", 1, 7, "0xE5"),
        (b"a = 1\n\0\0\0\0", "H105", 2, 1, "NUL"),
        ("a = '号\0'", "H105", 1, 7, "NUL"),
        (b"\0" * 64, "H105", 1, 1, "NUL"),
    ],
)
def test_other_encodings_are_named_and_placed(raw: str | bytes, code: str, line: int, column: int, says: str) -> None:
    problem = refused(raw)
    assert (problem.code, problem.place) == (code, Place("f.toml", line, column))
    assert says in problem.message_zh
    assert "UTF-8" in problem.fix
    assert "UTF-8" in problem.fix_zh


def test_the_sample_of_a_gbk_file_shows_no_more_than_its_chinese_run() -> None:
    assert "secret" not in refused('password = "密码secret"'.encode("gbk")).render()


def test_load_names_the_file_as_asked(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "映射.toml"
    path.write_bytes(GOOD.encode())
    assert load_document(path).file == str(path)
    assert load_document(path, name="映射.toml").place(("name",)) == Place("映射.toml", 2, 1)


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: pathlib.Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(DocumentError) as caught:
            load_document(path, name="x.toml")
        assert [problem.code for problem in caught.value.problems] == ["H100"]
        assert isinstance(caught.value.__cause__, OSError)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_give_a_document_or_a_problem(raw: bytes) -> None:
    try:
        parse_document(raw, "f")
    except DocumentError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.place.line >= 1
            assert problem.place.column >= 1
            assert problem.message_zh
