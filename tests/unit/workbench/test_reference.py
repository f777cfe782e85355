"""What is generated from the contract and the shapes: docs/zh/fields.md, the JSON Schema, the scoring table, SARIF, grants."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from his_db import contract, registry
from his_db.catalogue.grant_script import grant_script
from his_db.catalogue.model import Catalogue, Column, Login, Name, Routine, RoutineParameter, Table
from his_db.document.problem import Place, Problem, Problems
from his_db.mapping.load import load_mapping_set
from his_db.workbench import codes
from his_db.workbench.check_online import check_use
from his_db.workbench.discover import score_column
from his_db.workbench.field_reference import field_reference
from his_db.workbench.grants import body_rights
from his_db.workbench.json_schema import mapping_schema
from his_db.workbench.sarif import sarif
from his_db.workbench.scaffold import ScaffoldRefused, file_of, scaffold_procedure, scaffold_table
from his_db.workbench.usage import uses_of
from his_db.workbench.vocabulary import SUBJECTS, Terms

ROOT = Path(__file__).resolve().parents[3]


def test_the_field_reference_is_fresh() -> None:
    """Write it anew with: his160 mapping fields --write docs/zh/fields.md"""
    assert (ROOT / "docs" / "zh" / "fields.md").read_text(encoding="utf-8") == field_reference()


def test_the_field_reference_names_every_operation_and_marks_personal_fields() -> None:
    text = field_reference()
    for name in contract.mappable_names():
        assert f"### {name}\n" in text
    row = next(line for line in text.splitlines() if line.startswith("| `document_no` |"))
    assert "个人" in row


def fits(value: Any, schema: dict[str, Any], defs: dict[str, Any]) -> bool:
    """As much of JSON Schema as the generated one uses; the library is no dependency of ours."""
    if "$ref" in schema:
        return fits(value, defs[schema["$ref"].rpartition("/")[2]], defs)
    if "oneOf" in schema:
        return sum(fits(value, each, defs) for each in schema["oneOf"]) == 1
    if "anyOf" in schema:
        return any(fits(value, each, defs) for each in schema["anyOf"])
    if "not" in schema:
        return not isinstance(value, (list, dict))
    if "enum" in schema and value not in schema["enum"]:
        return False
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "number": (int, float)}
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return False
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    if isinstance(value, list):
        return all(fits(item, schema.get("items", {}), defs) for item in value)
    return not isinstance(value, dict) or _object_fits(value, schema, defs)


def _object_fits(value: dict[str, Any], schema: dict[str, Any], defs: dict[str, Any]) -> bool:
    known = schema.get("properties", {})
    if any(name not in value for name in schema.get("required", ())):
        return False
    extra = schema.get("additionalProperties", {})
    for name, item in value.items():
        if name not in known and extra is False:
            return False
        if not fits(item, known.get(name, extra or {}), defs):
            return False
    for rule in schema.get("allOf", ()):
        if value.get("kind") == rule["if"]["properties"]["kind"]["const"] and not fits(value, rule["then"], defs):
            return False
    return True


def test_every_file_of_every_pack_fits_the_json_schema() -> None:
    schema = json.loads(json.dumps(mapping_schema()))
    wrong = []
    for path in sorted((ROOT / "his_db" / "packs").glob("*/mappings*/**/*.toml")):
        if path.name.startswith("_"):
            continue
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        if not fits(data, schema, schema["$defs"]):
            wrong.append(str(path.relative_to(ROOT)))
    assert not wrong
    bad = {"schema": 1, "operation": "CatalogService.ListDoctors", "kind": "table", "objekt": "x"}
    assert not fits(bad, schema, schema["$defs"])


def test_the_schema_knows_every_kind() -> None:
    assert set(registry.KINDS) - {"gateway"} <= set(mapping_schema()["$defs"])
    gateways = mapping_schema()["$defs"]["gateway_file"]["properties"]["gateway"]["enum"]
    assert gateways == list(registry.GATEWAYS)


def test_the_scoring_table_names_fields_of_the_contract() -> None:
    for subject in SUBJECTS.values():
        for name in subject.operations:
            about = contract.operation(name)
            messages = [field.message_type for field in about.response.fields if field.message_type is not None]
            message = next(each for each in messages if each.name == subject.message)
            for field in subject.fields:
                assert field.startswith("~") or field in message.fields_by_name, (subject.message, field)


@pytest.mark.parametrize(
    ("column", "comment", "least"),
    [("kssj", "", 0.9), ("p_kssj", "", 0.9), ("X1", "开始时间", 0.95), ("TIME_BEGIN", "", 0.8), ("gh_yykssj", "", 0.5)],
)
def test_a_column_is_known_by_pinyin_comment_words_or_ending(column: str, comment: str, least: float) -> None:
    terms = Terms("kssj yykssj", "time+begin", "开始时间")
    assert score_column(terms, column, comment)[0] >= least


def test_what_is_used_up_never_becomes_what_is_free() -> None:
    assert score_column(SUBJECTS["schedule"].fields["free_count"], "ygh", "")[0] == 0


def test_sarif_has_a_rule_for_every_result() -> None:
    problems = Problems([Problem(Place("a.toml", 3, 7), "H503", "no column", "没有列", "x", "y")])
    run = sarif(problems, "1", "/m")["runs"][0]
    (result,) = run["results"]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "H503"
    assert run["tool"]["driver"]["rules"][0]["shortDescription"]["text"] == codes.CODES["H503"]
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 3, "startColumn": 7}


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        ("catalog/list_slots.toml", "catalog/list_slots.toml"),
        ("门诊/号 源.toml", "%E9%97%A8%E8%AF%8A/%E5%8F%B7%20%E6%BA%90.toml"),
        ("a#1%.toml", "a%231%25.toml"),
    ],
)
def test_places_in_sarif_are_uris(file: str, uri: str) -> None:
    """SARIF wants RFC 3986: a file of a Chinese name is not found by an editor otherwise."""
    (result,) = sarif(Problems([Problem(Place(file, 1, 1), "H503", "a", "b")]), "1", "/m")["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": uri, "uriBaseId": "MAPPING"}


def catalogue(engine: str, schema: str = "his") -> Catalogue:
    columns = (
        Column("id", "int", nullable=False, comment="", family="number"),
        Column("ksmc", "varchar(40)", nullable=True, comment="", family="text"),
    )
    table = Table(schema, "Dept", "table", "", columns, ("id",))
    other = Table(schema, "lock", "table", "", columns, ("id",))
    parameters = (RoutineParameter("p_ddh", "in", "varchar"), RoutineParameter("o_code", "out", "int"))
    routine = Routine(schema, "usp_x", "procedure", "", parameters, signature="IN p varchar")
    return Catalogue(
        engine,
        Login("me", "hisdb", "utf8", (schema,)),
        {table.key: table, other.key: other},
        {routine.key: (routine,)},
        {},
    )


@pytest.mark.parametrize(
    ("engine", "account", "expected"),
    [
        (
            "postgresql",
            "jk160",
            [
                'GRANT CONNECT ON DATABASE "hisdb" TO "jk160"',
                'GRANT USAGE ON SCHEMA "his" TO "jk160"',
                'GRANT SELECT, UPDATE ON "his"."Dept" TO "jk160"',
                'GRANT EXECUTE ON PROCEDURE "his"."usp_x"(IN p varchar) TO "jk160"',
                'GRANT USAGE ON SEQUENCE "his"."seq" TO "jk160"',
            ],
        ),
        (
            "mysql",
            "jk160@10.1.%",
            [
                "GRANT SELECT, UPDATE ON `his`.`Dept` TO 'jk160'@'10.1.%'",
                "GRANT EXECUTE ON PROCEDURE `his`.`usp_x` TO 'jk160'@'10.1.%'",
            ],
        ),
        (
            "mssql",
            "jk]160",
            ["GRANT SELECT, UPDATE ON [his].[Dept] TO [jk]]160]", "GRANT EXECUTE ON [his].[usp_x] TO [jk]]160]"],
        ),
        (
            "oracle",
            "jk160",
            [
                'GRANT CREATE SESSION TO "JK160"',
                'GRANT SELECT, UPDATE ON "his"."Dept" TO "JK160"',
                'GRANT EXECUTE ON "his"."usp_x" TO "JK160"',
            ],
        ),
        ("sqlite", "x", []),
    ],
)
def test_grant_scripts(engine: str, account: str, expected: list[str]) -> None:
    rights = {Name("his", "dept"): frozenset({"SELECT", "UPDATE"}), Name("his", "usp_x"): frozenset({"EXECUTE"})}
    sequences = [Name("his", "seq")] if engine == "postgresql" else []
    found = grant_script(catalogue(engine), rights, account, sequences=sequences)
    assert list(found.statements) == expected


def test_what_a_body_touches() -> None:
    body = """BEGIN
      -- DELETE FROM his.lock is only a comment
      SELECT id INTO v FROM his.dept WHERE id = p FOR UPDATE;
      INSERT INTO his.lock (id) VALUES (v);
      CALL his.usp_x(v, o);
    END"""
    assert body_rights(body, catalogue("postgresql")) == {
        Name("his", "dept"): {"SELECT", "UPDATE"},
        Name("his", "lock"): {"INSERT", "SELECT"},
        Name("his", "usp_x"): {"EXECUTE"},
    }


def test_scaffold_is_toml_and_refuses_what_it_cannot() -> None:
    about = contract.operation("CatalogService.ListDepartments")
    found = scaffold_table(about, catalogue("mssql"), "dept")
    data = tomllib.loads(found.text)
    assert data["object"] == "his.Dept"
    assert {entry["to"] for entry in data["result"][0]["fields"]} == {"department_id", "name"}
    assert file_of(about) == found.path == "catalog/list_departments.toml"
    call = scaffold_procedure(contract.operation("AppointmentService.UnlockSlot"), catalogue("mssql"), "usp_x")
    data = tomllib.loads(call.text)
    assert data["outcome"] == {"from": "o_code", "ok": [0], "errors": [], "otherwise": "unknown"}
    assert data["params"][0] == {"name": "p_ddh", "from": "order_no", "type": "varchar"}
    with pytest.raises(ScaffoldRefused):
        scaffold_table(contract.operation("AppointmentService.LockSlot"), catalogue("mssql"), "dept")
    with pytest.raises(ScaffoldRefused):
        scaffold_table(about, catalogue("mssql"), "nothing")
    with pytest.raises(ScaffoldRefused):
        scaffold_procedure(about, catalogue("mssql"), "nothing")


def padded(engine: str) -> Catalogue:
    columns = (
        Column("KSDM", "CHAR(6)", nullable=False, comment="科室代码", family="text"),
        Column("YSDM", "VARCHAR2(6)", nullable=False, comment="医生代码", family="text"),
        Column("YSXM", "CHAR(20)", nullable=False, comment="医生姓名", family="text"),
    )
    table = Table("HIS", "YS", "table", "", columns, ("YSDM",))
    return Catalogue(engine, Login("me", "hisdb", "utf8", ("HIS",)), {table.key: table}, {}, {})


@pytest.mark.parametrize(("engine", "pad"), [("oracle", 6), ("dm", 6), ("mssql", 0), ("mysql", 0), ("postgresql", 0)])
def test_a_scaffold_pads_filters_on_char_columns_where_blanks_count(engine: str, pad: int) -> None:
    data = tomllib.loads(scaffold_table(contract.operation("CatalogService.ListDoctors"), padded(engine), "YS").text)
    (where,) = [item for item in data["where"] if item["column"] == "KSDM"]
    assert where.get("pad", 0) == pad
    assert not any("pad" in item for item in data["where"] if item["column"] == "YSDM")


QUERY = """schema = 1
operation = "CatalogService.ListDoctors"
kind = "query"
params = [ { name = "zt", const = "1" }, { name = "ksdm", from = "department_id"PAD } ]
sql = "SELECT y.YSDM, y.YSXM FROM HIS.YS y WHERE y.KSDM = :ksdm AND y.YSXM = :zt AND y.YSDM <> :department_id ORDER BY y.YSDM"
[[result]]
fields = [ { to = "doctor_id", column = "YSDM" }, { to = "name", column = "YSXM" }, { to = "department_id", const = "1" } ]
"""
TABLE = """schema = 1
operation = "CatalogService.ListDoctors"
kind = "table"
object = "HIS.YS"
where = [ { column = "KSDM", from = "department_id"PAD } ]
[[result]]
fields = [ { to = "doctor_id", column = "YSDM" }, { to = "name", column = "YSXM" }, { to = "department_id", const = "1" } ]
"""


@pytest.mark.parametrize(
    ("text", "pad", "engine", "places"),
    [
        (QUERY, "", "oracle", [(4, "H512"), (4, "H512")]),
        (QUERY, ", pad = 6", "oracle", [(4, "H512")]),  # the constant is short, too
        (QUERY, "", "mssql", []),
        (TABLE, "", "oracle", [(5, "H512")]),
        (TABLE, ", pad = 6", "oracle", []),
    ],
)
def test_the_check_finds_char_columns_that_never_match(
    tmp_path: Path, text: str, pad: str, engine: str, places: list[tuple[int, str]]
) -> None:
    (tmp_path / "x.toml").write_text(text.replace("PAD", pad), encoding="utf-8")
    mapping_set = load_mapping_set(tmp_path, sources={"his": engine}, timezone="Asia/Shanghai")
    problems = Problems()
    for use in uses_of(mapping_set):
        check_use(use, dataclasses.replace(padded(engine), rights={Name("his", "ys"): frozenset({"SELECT"})}), problems)
    assert [(p.place.line, p.code) for p in problems.sorted()] == places


@pytest.mark.parametrize("name", contract.mappable_names())
def test_every_operation_can_be_scaffolded_from_a_procedure(name: str) -> None:
    found = scaffold_procedure(contract.operation(name), catalogue("oracle"), "usp_x")
    assert tomllib.loads(found.text)["operation"] == name
    assert "TODO" not in found.text
