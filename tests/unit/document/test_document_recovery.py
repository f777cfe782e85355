"""Reading on behind a syntax fault: every slip is told once, the rest of the file is read as it stands."""

from __future__ import annotations

import pytest

from his_db.document.located import read_document
from his_db.document.meant import as_meant
from his_db.document.problem import DocumentError, Problems
from his_db.document.shape import Field, Integer, ListOf, MapOf, TableOf, Text

FILE = '''schema = 1
name = "床位"
[[step]]
name = "take"
sql = """
UPDATE T
"""
where = [
  { a = "x", b = 1 },
]
'''


@pytest.mark.parametrize(
    ("old", "new", "code", "value"),
    [
        ('"床位"', "“床位”", "H107", "床位"),
        ('"床位"', '"床位”', "H107", "床位"),
        ('name = "床位"', 'name ＝ "床位"', "H107", "床位"),
        ('name = "床位"', 'name："床位"', "H107", "床位"),
        ('name = "床位"', "name = 床位", "H108", "床位"),
        ('"床位"', "True", "H108", True),
        ('"床位"', "10.1.1.1", "H108", "10.1.1.1"),
        ('"床位"', "007", "H113", "007"),
        ('"床位"', r'"C:\data\his"', "H111", r"C:\data\his"),
        ('"床位"', '"床位', "H110", None),
        ('"床位"', "", "H101", None),
        ('"床位"', "null", "H108", None),
    ],
)
def test_one_line_is_mended_or_left_out(old: str, new: str, code: str, value: object) -> None:
    text = FILE.replace(old, new, 1)
    document, problems = read_document(text, "f")
    assert [(problem.code, problem.place.line) for problem in problems] == [(code, 2)]
    assert document is not None
    assert document.data.get("name") == value
    assert document.data["step"] == [{"name": "take", "sql": "UPDATE T\n", "where": [{"a": "x", "b": 1}]}]
    assert document.place(("step", 0, "where", 0, "b")).line == 9
    assert document.damage.hides(("name",)) == (value is None)
    assert not document.damage.hides(("step", 0, "name"))


@pytest.mark.parametrize(
    ("old", "new", "code", "item"),
    [
        ('"x", b', '"x" b', "H101", {"a": "x", "b": 1}),
        ('"x", b', '"x"，b', "H107", {"a": "x", "b": 1}),
        ("b = 1 },", "b = 1, },", "H109", {"a": "x", "b": 1}),
        ("b = 1 },", "b = 1 }，", "H107", {"a": "x", "b": 1}),
        ('"x"', "x", "H108", {"a": "x", "b": 1}),
    ],
)
def test_a_line_of_a_list(old: str, new: str, code: str, item: dict[str, object]) -> None:
    document, problems = read_document(FILE.replace(old, new, 1), "f")
    assert [(problem.code, problem.place.line) for problem in problems] == [(code, 9)]
    assert document is not None
    assert document.data["step"][0]["where"] == [item]


def test_what_cannot_be_mended_is_lost_where_it_stood() -> None:
    document, problems = read_document(FILE.replace('{ a = "x", b = 1 },', "a b c"), "f")
    assert [problem.place.line for problem in problems] == [9]
    assert document is not None
    assert document.data["step"][0]["where"] == []
    assert document.damage.loses(("step", 0, "where"))
    assert document.damage.loses(("step",))
    assert not document.damage.loses(("name",))


def test_several_slips_are_told_at_once() -> None:
    text = (
        FILE.replace("= 1\n", "＝ 1\n").replace('"床位"', "床位").replace('"take"', "“take”").replace('"x", b', '"x" b')
    )
    document, problems = read_document(text, "f")
    assert [(p.code, p.place.line) for p in problems] == [("H107", 1), ("H108", 2), ("H107", 4), ("H101", 9)]
    assert document is not None
    assert document.data == read_document(FILE, "f")[0].data  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "broken", ["[[step", "[step]\n[step]\nx = 1", 'sql = """\nSELECT', "x = [\n 1, 2", "x = {\n a = 1 }"]
)
def test_nothing_is_guessed_beyond_what_is_open(broken: str) -> None:
    document, problems = read_document(f"schema = 1\n{broken}\n", "f")
    assert document is None
    assert len(problems) == 1


def test_misspelt_keys_are_read_as_they_were_meant() -> None:
    shape = TableOf(
        {
            "timeout": Field(Text()),
            "result": Field(
                ListOf(TableOf({"fields": Field(ListOf(TableOf({"to": Field(Text()), "column": Field(Text())})))}))
            ),
            "source": Field(MapOf(TableOf({"port": Field(Integer())}))),
        }
    )
    document, _ = read_document(
        'tiemout = "3s"\n[[reslt]]\nfeilds = [ { to = "a", colum = "b" } ]\n[source.his]\nprot = 1\n', "f"
    )
    assert document is not None
    problems = Problems()
    meant = as_meant(document, shape, problems)
    assert meant.data == {
        "timeout": "3s",
        "result": [{"fields": [{"to": "a", "column": "b"}]}],
        "source": {"his": {"port": 1}},
    }
    assert [(p.code, p.place.line, p.place.column) for p in problems.sorted()] == [
        ("H120", 1, 1), ("H120", 2, 3), ("H120", 3, 1), ("H120", 3, 24), ("H120", 5, 1),
    ]  # fmt: skip
    assert meant.value_place(("result", 0, "fields", 0, "column")) == document.value_place(
        ("reslt", 0, "feilds", 0, "colum")
    )
    assert document.data.keys() == {"tiemout", "reslt", "source"}


def test_a_key_is_not_renamed_where_its_value_says_that_it_is_another() -> None:
    shape = TableOf({"timeout": Field(Text()), "port": Field(Integer())})
    document, _ = read_document("tiemout = 3\nprot = 1\nport = 2\n", "f")
    assert document is not None
    problems = Problems()
    assert as_meant(document, shape, problems) is document
    assert not problems


def test_the_document_of_one_fault_is_refused_whole() -> None:
    from his_db.document.located import parse_document

    with pytest.raises(DocumentError) as caught:
        parse_document(FILE.replace('"床位"', "床位").replace('"take"', "“take”"), "f")
    assert [problem.code for problem in caught.value.problems] == ["H108", "H107"]
