"""The neusoft pack: the Oracle mappings and their PostgreSQL port differ only where the engines force it; the SQL is read as Oracle.

Write the port anew after a change of `mappings/`: `python tests/unit/packs/test_neusoft_pack.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from his_db.mapping.load import load_mapping_set
from his_db.mapping.sql_text import binds, with_literals

PACK = Path(__file__).resolve().parents[3] / "his_db" / "packs" / "neusoft"
ORACLE, POSTGRESQL = PACK / "mappings", PACK / "mappings_postgresql"
SAMPLE = PACK / "sample"

# All that may differ between a file of `mappings/` and the same file of `mappings_postgresql/`: the type names of OUT parameters.
# SQL, parameters, codes, result columns and reasons are the same, letter by letter.
ALLOWED: tuple[tuple[str, str], ...] = (
    ('type = "number"', 'type = "int"'),
    ('type = "varchar2(200)"', 'type = "varchar"'),
    ('type = "sys_refcursor"', 'type = "refcursor"'),
)


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.toml"))
    }


def ported(text: str) -> str:
    for oracle, postgresql in ALLOWED:
        text = text.replace(oracle, postgresql)
    return text


def test_the_port_differs_only_in_what_must_differ() -> None:
    assert {name: ported(text) for name, text in files(ORACLE).items()} == files(POSTGRESQL)
    assert all(any(old in text for text in files(ORACLE).values()) for old, _ in ALLOWED)  # no entry is idle


@pytest.mark.parametrize(("folder", "engine"), [(ORACLE, "oracle"), (POSTGRESQL, "postgresql")])
def test_both_sets_are_clean(folder: Path, engine: str) -> None:
    mapping = load_mapping_set(folder, sources={"his": engine}, timezone="Asia/Shanghai")
    assert list(mapping.warnings) == []  # errors would have been raised
    assert len(mapping.operations) == 30


def statements() -> Iterator[tuple[str, str]]:
    """Every SQL text of the mappings, with the file it is in."""
    for name, text in files(ORACLE).items():
        for match in re.finditer(r'^sql = """\n(.*?)"""', text, re.DOTALL | re.MULTILINE):
            yield name, match[1]


def test_every_query_is_read_as_oracle_11g() -> None:
    found = list(statements())
    assert len(found) >= 10
    for name, sql in found:
        for dialect in ("oracle", "postgres"):
            tree = sqlglot.parse_one(with_literals(sql), read=dialect)
            assert isinstance(tree, exp.Select), name
            assert tree.find(exp.Limit, exp.Fetch, exp.Offset) is None, (
                f"{name}: Oracle 11g has neither LIMIT nor FETCH FIRST"
            )
        assert "''" not in sql, f"{name}: '' is NULL in Oracle and a text in PostgreSQL"
        assert not {"dual", "rownum", "nvl", "sysdate"} & set(re.findall(r"\w+", sql.lower())), f"{name}: Oracle only"
        assert binds(sql)


# --- the sample's DDL -----------------------------------------------------------------------------------------------

TYPES = {"VARCHAR2": "varchar", "CHAR": "char", "NUMBER": "numeric", "DATE": "timestamp(0)"}


def tables(text: str) -> dict[str, list[tuple[str, str, bool]]]:
    """Lower-case table name: (column, type, NOT NULL) in order, read from the text of both dialects."""
    found: dict[str, list[tuple[str, str, bool]]] = {}
    code = re.sub(r"--[^\n]*", "", text)
    for name, body in re.findall(r"CREATE TABLE (?:neuhis\.)?(\w+) \((.*?)\n\);", code, re.DOTALL):
        columns = []
        for piece in re.split(r",(?![^(]*\))", body):
            words = piece.split()
            if words[0] != "CONSTRAINT":
                columns.append((words[0].lower(), port_type(words[1]), "NOT NULL" in piece))
        found[name.lower()] = columns
    return found


def port_type(name: str) -> str:
    plain, bracket, size = name.partition("(")
    return TYPES.get(plain, plain) + bracket + size


def schema(engine: str) -> str:
    return (SAMPLE / engine / "schema.sql").read_text(encoding="utf-8")


def test_both_schemas_have_the_same_tables_and_columns() -> None:
    oracle, postgresql = tables(schema("oracle")), tables(schema("postgresql"))
    assert oracle == postgresql
    assert len(oracle) == 18


def test_oracle_ddl_is_read_by_sqlglot_and_fits_11g() -> None:
    code = schema("oracle")
    trees = [tree for tree in sqlglot.parse(code, read="oracle") if tree is not None]
    made = [tree for tree in trees if isinstance(tree, exp.Create)]
    assert len(made) == len(trees) == code.count("\nCREATE ")
    names = {name.this for tree in made for name in tree.find_all(exp.Identifier)}
    assert [name for name in names if len(name) > 30] == []  # the limit of 11g


# --- the package: it runs nowhere here, so its text is compared with the port that does -----------------------------


def package() -> str:
    return (SAMPLE / "oracle" / "package.sql").read_text(encoding="utf-8")


def procedures() -> str:
    return (SAMPLE / "postgresql" / "procedures.sql").read_text(encoding="utf-8")


def routines(text: str) -> dict[str, tuple[str, ...]]:
    """Public procedures P_…: names of their parameters with direction; the type is the engine's."""
    found: dict[str, tuple[str, ...]] = {}
    for name, body in re.findall(
        r"PROCEDURE (?:pkg_160\.)?(p_\w+)\s*\((.*?)\)(?:;| IS|\s*LANGUAGE)", text, re.DOTALL | re.IGNORECASE
    ):
        parameters = []
        for piece in body.split(","):
            words = piece.lower().split()
            parameters.append("out " + next(w for w in words if w != "out") if "out" in words else words[0])
        key = name.lower()
        assert found.setdefault(key, tuple(parameters)) == tuple(parameters), key  # specification and body agree
    return found


def verdicts(text: str) -> dict[str, set[str]]:
    """Code: texts, wherever the code assigns both."""
    found: dict[str, set[str]] = {}
    code = re.sub(r"--[^\n]*", "", text)
    for number, sentence in re.findall(r"o_code := (-?\d+); o_msg := '([^']*)'", code):
        found.setdefault(number, set()).add(sentence)
    return found


def test_package_and_port_have_the_same_procedures() -> None:
    assert routines(package()) == routines(procedures())
    assert len(routines(package())) == 10
    for name, parameters in routines(package()).items():
        assert parameters[-3:] == ("out o_code", "out o_msg", "out o_cur"), name


def test_package_and_port_have_the_same_codes_and_texts() -> None:
    assert verdicts(package()) == verdicts(procedures())
    listed = set(re.findall(r"^--\s+(-?\d+)  ", package(), re.MULTILINE))
    assert listed == set(verdicts(package()))


def test_package_never_commits_and_is_whole() -> None:
    code = re.sub(r"--[^\n]*|'[^']*'", "", package()).upper()
    assert not re.search(r"\bCOMMIT\b|\bAUTONOMOUS_TRANSACTION\b|\bDBMS_LOCK\b|EXECUTE IMMEDIATE", code)
    assert code.count("\n/\n") == 2
    for name in re.findall(r"\n  (?:PROCEDURE|FUNCTION) (\w+)", code[code.index("PACKAGE BODY") :]):
        assert code.count(f"END {name};") == 1, name
    assert code.count("(") == code.count(")")
    assert len(re.findall(r"\bIF\b", code)) == 2 * code.count("END IF")
    assert len(re.findall(r"\bLOOP\b", code)) == 2 * code.count("END LOOP")


def test_every_code_of_the_package_has_a_meaning_in_the_mappings() -> None:
    used = {c for text in files(ORACLE).values() for c in re.findall(r"is = (-?\d+),", text)}
    used |= {
        c.strip()
        for text in files(ORACLE).values()
        for m in re.findall(r"^ok = \[(.*)\]", text, re.MULTILINE)
        for c in m.split(",")
    }
    assert used == set(verdicts(package()))


if __name__ == "__main__":
    for name, text in files(ORACLE).items():
        target = POSTGRESQL / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(ported(text), encoding="utf-8")
