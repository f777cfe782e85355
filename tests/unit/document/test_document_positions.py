from __future__ import annotations

import random
import string
import textwrap
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from his_db.document.located import Document, Path, parse_document
from his_db.document.problem import Place

MAPPING = textwrap.dedent(
    '''\
    # 锁号
    schema = 1
    operation = "AppointmentService.LockSlot"   # 操作
    params = [
      { name = "@hyid", from = "slot_id" },
      # 说明
      { name = "@rc", dir = 'return' }, 7
    ]
    sql = """
    [not.a.table] = 1
    """
    [source.his]
    "主机".port = 1433
    when = 2024-01-01 08:00:00 # blank in a value
    [[result]]
    rows = "one"
    fields = [[1, 2], []]
    [result.inner]
    x = { a.b = 1, a.c = 2 }
      [[ result ]]
    rows = "many"
    [[result.sub]]
    y = 1
    [[result.sub]]
    '''
)

PLACES: list[tuple[Path, tuple[int, int], tuple[int, int]]] = [
    (("schema",), (2, 1), (2, 10)),
    (("operation",), (3, 1), (3, 13)),
    (("params",), (4, 1), (4, 10)),
    (("params", 0), (5, 3), (5, 3)),
    (("params", 0, "from"), (5, 21), (5, 28)),
    (("params", 1, "dir"), (7, 19), (7, 25)),
    (("params", 2), (7, 37), (7, 37)),
    (("sql",), (9, 1), (9, 7)),
    (("source",), (12, 2), (12, 1)),
    (("source", "his"), (12, 9), (12, 1)),
    (("source", "his", "主机"), (13, 1), (13, 1)),
    (("source", "his", "主机", "port"), (13, 6), (13, 13)),
    (("source", "his", "when"), (14, 1), (14, 8)),
    (("result",), (15, 3), (15, 1)),
    (("result", 0), (15, 3), (15, 1)),
    (("result", 0, "fields"), (17, 1), (17, 10)),
    (("result", 0, "fields", 0, 1), (17, 15), (17, 15)),
    (("result", 0, "fields", 1), (17, 19), (17, 19)),
    (("result", 0, "inner"), (18, 9), (18, 1)),
    (("result", 0, "inner", "x", "a"), (19, 7), (19, 7)),
    (("result", 0, "inner", "x", "a", "c"), (19, 18), (19, 22)),
    (("result", 1), (20, 6), (20, 3)),
    (("result", 1, "rows"), (21, 1), (21, 8)),
    (("result", 1, "sub"), (22, 10), (22, 1)),
    (("result", 1, "sub", 0, "y"), (23, 1), (23, 5)),
    (("result", 1, "sub", 1), (24, 10), (24, 1)),
    # what does not exist is at its nearest parent
    (("schema", "none", 3), (2, 1), (2, 10)),
    (("result", 1, "none"), (20, 6), (20, 3)),
    (("result", 7), (15, 3), (15, 1)),
    (("none",), (1, 1), (1, 1)),
    ((), (1, 1), (1, 1)),
]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize(("path", "key", "value"), PLACES)
def test_places_in_a_mapping(ends: str, path: Path, key: tuple[int, int], value: tuple[int, int]) -> None:
    document = parse_document(MAPPING.replace("\n", ends), "m.toml")
    assert document.place(path) == Place("m.toml", *key)
    assert document.value_place(path) == Place("m.toml", *value)


@pytest.mark.parametrize(
    "text",
    [
        'a = """"""\nb = 1',
        'a = """x"""""\nb = 1',
        'a = """ ""x"" \\""" """\nb = 1',
        "a = '''x''y''''\nb = 1",
        "a = ''\nb = 1",
        'a = "\\\\"\nb = 1',
        'a = "#"#c"\nb = 1',
        "a = 08:30:00#c\nb = 1",
        "a = -inf\nb = 1",
        "[x]\n[x.y]\nb.c = 1\n'b' . \"d\\u0065\" = 1",
        '"" = 1\nb = 1',
        "a = [ # c ] \n 1 , # ]\n ]\nb = 1",
    ],
)
def test_difficult_tokens_end_where_they_end(text: str) -> None:
    document = parse_document(text, "f")
    for path in paths_of(document.data):
        assert path in document.positions.keys
        assert path in document.positions.values
    if "b" in document.data:
        assert document.place(("b",)) == Place("f", text.count("\n") + 1, 1)


def test_a_document_without_positions_answers_line_one() -> None:
    assert Document("f", {"a": 1}).place(("a",)) == Place("f", 1, 1)


def test_a_header_of_its_own_wins_over_an_earlier_mention() -> None:
    document = parse_document("[a.b]\n[a]\nx = 1", "f")
    assert document.place(("a",)) == Place("f", 2, 2)


# ---- property: a writer that notes where it writes is the oracle -------------------------------------------------

SCALARS = (
    st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(alphabet="abZ _-#=[]{},.'\"\\\n\t号源，“", max_size=6)
    | st.dates(min_value=date(1000, 1, 1))
    | st.datetimes(min_value=datetime(1000, 1, 1)).map(lambda moment: moment.replace(microsecond=0))
    | st.times().map(lambda moment: moment.replace(microsecond=0))
)
KEYS = st.text(alphabet="ab1_-", min_size=1, max_size=3) | st.text(alphabet="a.\"'\\ #=]号", max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
DATA = st.dictionaries(KEYS, VALUES, max_size=4)


class Writer:
    """Writes data as TOML, each thing in one of its forms by chance, and notes the offset of every key and value."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.text = ""
        self.keys: dict[Path, int] = {}
        self.values: dict[Path, int] = {}

    def put(self, text: str) -> None:
        self.text += text

    def blank(self) -> None:
        self.put(self.chance.choice(["", "", " ", "\t "]))

    def filler(self) -> None:
        self.put(self.chance.choice(["", "", " ", "\n", ' # ] } = 注释 "\n', "\n\n  "]))

    def line_end(self) -> None:
        self.put(self.chance.choice(["\n", "\n", " # ' \" [x]\n", "\n\n\t"]))

    def key(self, key: str) -> None:
        bare = key and not set(key) - set(string.ascii_letters + string.digits + "_-")
        forms = [quoted(key)] + ([key] if bare else []) + ([f"'{key}'"] if "'" not in key else [])
        self.put(self.chance.choice(forms))

    def dotted(self, parts: list[tuple[str, Path]], *, start: int | None, final: bool) -> None:
        """A dotted key; `parts` with their paths. `start`: where tables named here begin (None: at their name)."""
        for index, (part, path) in enumerate(parts):
            if index:
                self.blank()
                self.put(".")
                self.blank()
            at = len(self.text)
            if final and index == len(parts) - 1:
                self.keys[path] = at
            else:
                self.keys.setdefault(path, at)
                self.values.setdefault(path, at if start is None else start)
            self.key(part)

    def entries(self, table: dict[str, Any], path: Path, prefix: list[tuple[str, Path]]) -> Iterator[tuple[Any, ...]]:
        """`table` as (dotted key, value, path) lines; some of its tables become dotted keys."""
        for key, value in table.items():
            below = (*path, key)
            if isinstance(value, dict) and value and self.chance.random() < 0.3:
                yield from self.entries(value, below, [*prefix, (key, below)])
            else:
                yield [*prefix, (key, below)], value, below

    def body(self, table: dict[str, Any], path: Path, header: list[tuple[str, Path]]) -> None:
        """The settings of a table, then the tables below it with headers of their own."""
        later = {
            key: value
            for key, value in table.items()
            if (isinstance(value, dict) or is_tables(value)) and self.chance.random() < 0.6
        }
        now = {key: value for key, value in table.items() if key not in later}
        for parts, value, below in self.entries(now, path, []):
            self.blank()
            self.dotted(parts, start=None, final=True)
            self.blank()
            self.put("=")
            self.blank()
            self.value(value, below)
            self.line_end()
        for key, value in later.items():
            below = (*path, key)
            names = [*header, (key, below)]
            if isinstance(value, dict):
                self.header(names, below, "[", "]")
                self.body(value, below, names)
                continue
            for index, item in enumerate(value):
                self.header(names, (*below, index), "[[", "]]")
                self.body(item, (*below, index), names)

    def header(self, names: list[tuple[str, Path]], path: Path, opening: str, closing: str) -> None:
        self.blank()
        start = len(self.text)
        self.put(opening)
        self.blank()
        self.dotted(names[:-1], start=start, final=False)
        if names[:-1]:
            self.put(".")
        at = len(self.text)
        self.key(names[-1][0])
        for known in {path, names[-1][1]}:
            self.keys.setdefault(known, at)
            self.values.setdefault(known, start)
        self.blank()
        self.put(closing)
        self.line_end()

    def value(self, value: Any, path: Path) -> None:
        self.values[path] = len(self.text)
        self.keys.setdefault(path, len(self.text))
        if isinstance(value, list):
            self.put("[")
            for index, item in enumerate(value):
                self.filler()
                self.value(item, (*path, index))
                self.filler()
                self.put("," if index < len(value) - 1 or self.chance.random() < 0.3 else "")
            self.filler()
            self.put("]")
        elif isinstance(value, dict):
            self.put("{")
            for index, (parts, item, below) in enumerate(self.entries(value, path, [])):
                self.put(", " if index else " ")
                self.dotted(parts, start=None, final=True)
                self.put(" = ")
                self.flat(item, below)
            self.put(" }")
        else:
            self.put(self.scalar(value))

    def flat(self, value: Any, path: Path) -> None:
        """A value in an inline table: lists may go over lines even there."""
        self.value(value, path)

    def scalar(self, value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, datetime):
            return value.isoformat(sep=self.chance.choice(["T", " "]))
        if isinstance(value, (date, time)):
            return value.isoformat()
        if not isinstance(value, str):
            return repr(value)
        forms = [quoted(value), '"""\n' + value.replace("\\", "\\\\").replace('"', '\\"') + '"""']
        if "'" not in value and "\n" not in value:
            forms.append(f"'{value}'")
        if "''" not in value:
            forms.append(f"'''\n{value}'''")
        return self.chance.choice(forms)


def quoted(text: str) -> str:
    for char, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        text = text.replace(char, escape)
    return f'"{text}"'


def is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def paths_of(value: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths_of(item, (*path, key))


def place_of(text: str, offset: int) -> Place:
    before = text[:offset]
    return Place("f", before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)


@settings(max_examples=200, deadline=None)
@given(data=DATA, seed=st.integers(0, 10**6), crlf=st.booleans())
def test_every_path_has_the_place_where_it_was_written(data: dict[str, Any], seed: int, crlf: bool) -> None:
    writer = Writer(seed)
    writer.body(data, (), [])
    document = parse_document(writer.text.replace("\n", "\r\n") if crlf else writer.text, "f")
    assert document.data == data
    paths = list(paths_of(data))
    assert set(paths) == set(document.positions.keys) == set(document.positions.values)
    for path in paths:
        assert document.place(path) == place_of(writer.text, writer.keys[path]), path
        assert document.value_place(path) == place_of(writer.text, writer.values[path]), path
