"""The DBA's Chinese page of every pack says what he has to grant, to change and to know: held against the mappings themselves."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from his_db.mapping.load import load_mapping_set
from his_db.mapping.model import MappingSet
from his_db.workbench.usage import uses_of

PACKS = Path(__file__).resolve().parents[3] / "his_db" / "packs"
ENGINES = {"bsoft": "mysql", "neusoft": "oracle", "winning": "postgresql", "winning_mssql": "mssql", "zebone": "sqlite"}
SECTIONS = (
    "适用范围", "账号与权限", "上线前逐项核对和修改", "状态与识别", "数据里的坑", "未映射的接口", "上线步骤",
)  # fmt: skip
# Nobody may run us as the server's own account.
MASTERS = {"bsoft": "root", "neusoft": "SYSTEM", "winning": "postgres", "winning_mssql": "sa", "zebone": "SYSTEM"}
INVENTED = re.compile(r"\[(?:K|样例)[\]:]")
_NO_NAMES = {
    "NULL",
    "OLD_DOCT_",
    "SI",
    "CV02",
    "VARCHAR",
    "BIGINT",
    "INT",
    "DATE",
    "NOT",
    "DEFAULT",
    "CREATE",
    "TABLE",
    "DOUBLE",
    "TEXT",
}


@cache
def sections(pack: str) -> dict[str, str]:
    text = (PACKS / pack / "README.zh-CN.md").read_text(encoding="utf-8")
    found = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


@cache
def mappings(pack: str) -> MappingSet:
    return load_mapping_set(PACKS / pack / "mappings", sources={"his": ENGINES[pack]}, timezone="Asia/Shanghai")


def names(text: str) -> set[str]:
    return {name.lower() for name in re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text)}


def bare(name: str) -> str:
    return name.rpartition(".")[2].lower()


def test_every_pack_has_its_page() -> None:
    assert {path.parent.name for path in PACKS.glob("*/README.md")} == set(ENGINES)


@pytest.mark.parametrize("pack", sorted(ENGINES))
def test_it_has_all_sections(pack: str) -> None:
    assert tuple(sections(pack)) == SECTIONS
    assert f"`{MASTERS[pack]}`" in sections(pack)["账号与权限"]
    for link in re.findall(r"\]\(([^)#]+)\)", "".join(sections(pack).values())):
        assert (PACKS / pack / link).exists(), link
    for step in ("check --online", "mapping test", "rehearse", "publish", "drift"):
        assert step in sections(pack)["上线步骤"]


@pytest.mark.parametrize("pack", sorted(ENGINES))
def test_the_rights_are_those_that_the_mappings_need(pack: str) -> None:
    """INSERT tables, UPDATE columns and procedures: all of them, and none that no mapping uses."""
    rows = dict(re.findall(r"^\| ([A-Z]+) \| (.*) \|$", sections(pack)["账号与权限"], re.MULTILINE))
    insert: set[str] = set()
    update: dict[str, set[str]] = {}
    called: set[str] = set()
    for use in uses_of(mappings(pack)):
        called |= {bare(use.routine)} if use.routine else set()
        for statement in use.statements:
            for table, rights in statement.objects.tables.items():
                insert |= {bare(table)} if "INSERT" in rights else set()
                if "UPDATE" in rights:
                    known = update.setdefault(bare(table), set())
                    if "INSERT" not in rights:
                        changes = statement.objects.changes
                        known |= {item.column.lower() for item in changes if table in item.tables[:1]}
    assert names(rows.get("INSERT", "")) == insert
    assert called <= names(rows.get("EXECUTE", "")) <= called | {"pkg_160"}
    said = dict(re.findall(r"`(\w+)`（([^）]*)）", rows.get("UPDATE", "")))
    assert {table.lower(): names(columns) for table, columns in said.items()} == update


@pytest.mark.parametrize("pack", sorted(ENGINES))
def test_what_has_to_be_changed_on_site_is_listed(pack: str) -> None:
    """Every code map, and every name that the sample had to invent."""
    listed = sections(pack)["上线前逐项核对和修改"]
    for path in (PACKS / pack / "mappings" / "codes").glob("*.toml"):
        assert path.name in listed
    invented = 0
    for path in PACKS.joinpath(pack, "sample").rglob("schema.sql"):
        if "postgresql" in path.parts:
            continue  # the port of one that is read
        for line in path.read_text(encoding="utf-8").splitlines():
            if INVENTED.search(line) and "what is marked" not in line and "is marked" not in line:
                told = {n for n in re.findall(r"\b[A-Z][A-Z0-9_]{3,}", line) if n not in _NO_NAMES}
                assert not told or any(name in listed for name in told), line
                invented += 1
    english = (PACKS / pack / "README.md").read_text(encoding="utf-8")
    for line in english.splitlines():
        if " are [K]" in line:
            for name in re.findall(r"`(\w+)`", line.split(" are [K]")[0]):
                assert name in listed, name
                invented += 1
    assert invented or pack == "winning_mssql"


@pytest.mark.parametrize("pack", sorted(ENGINES))
def test_what_is_not_mapped_is_said(pack: str) -> None:
    unmapped = {
        name.partition(".")[2] for name, mapping in mappings(pack).operations.items() if mapping.kind == "unsupported"
    }
    told = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", sections(pack)["未映射的接口"]))
    assert told == unmapped
