"""The winning pack on SQL Server against its PostgreSQL port: operation by operation the same contract, but for a listed few differences.

After a change of `winning/mappings`: `python tests/unit/packs/test_winning_mssql_pack.py` writes reads, watches and code maps anew, and the IN
parameters of the calls; outcomes, results and tests of the calls are written by hand.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from his_db.mapping.load import load_mapping_set
from his_db.mapping.sql_text import with_literals

PACKS = Path(__file__).resolve().parents[3] / "his_db" / "packs"
WINNING, MSSQL = PACKS / "winning" / "mappings", PACKS / "winning_mssql" / "mappings"
SAMPLE = PACKS / "winning_mssql" / "sample"

# Reads, watches and code maps: what PostgreSQL says on the left is said on SQL Server as on the right. Nothing else differs.
DIALECT: tuple[tuple[str, str], ...] = (
    (r"\bhis\.(\w+)", r"dbo.\1"),
    (r"\bAS numeric\)", "AS numeric(12,0))"),
    (r"\bAS varchar\)", "AS varchar(64))"),  # without a length T-SQL cuts at 30
    (r"btrim\((\S+)\)", r"LTRIM(RTRIM(\1))"),
    (r"CAST\(:name AS text\)", "CAST(:name AS nvarchar(64))"),
    (r" NULLS LAST", ""),  # SQL Server puts NULL last when descending
    (r" \|\| ", " + "),
    (r"\brepeat\(", "REPLICATE("),
    (r"\blength\(", "LEN("),
)
LIMIT = re.compile(r'(sql = """\n)SELECT (.*?)\nLIMIT (:page_limit|1)\n', re.DOTALL)

# Reasons that one side alone can answer, by operation.
ONLY_MSSQL = {"HIS_BUSY"}  # sp_getapplock was not given in time; the advisory lock of PostgreSQL waits for lock_timeout
ONLY_MSSQL_IN = {
    "AppointmentService.UnlockSlot": {"SLOT_NOT_FOUND"}
}  # there -5 counts as done; here the text cannot: `ok` names codes
LOCK_NOTHING = {"RefundCheckService.CheckRefund"}
# Texts that only the port says: success and "done before", which are "T" here.
ONLY_PORT = re.compile(r"^成功$|请勿重复推送")
ONLY_HERE = {"系统忙，请稍后再试！"}


def ported(text: str) -> str:
    """A read, watch or code map of `winning` as SQL Server needs it."""
    text = LIMIT.sub(lambda m: f"{m[1]}SELECT TOP {'(:page_limit)' if m[3] != '1' else '1'} {m[2]}\n", text)
    for old, new in DIALECT:
        text = re.sub(old, new, text)
    return text


def documents(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    found = {}
    for path in sorted(folder.rglob("*.toml")):
        text = path.read_text(encoding="utf-8")
        found[path.relative_to(folder).as_posix()] = (text, tomllib.loads(text))
    return found


PORT, HERE = documents(WINNING), documents(MSSQL)
CALLS = sorted(name for name, (_, values) in PORT.items() if values.get("kind") == "procedure")


def test_both_packs_have_the_same_files() -> None:
    assert set(HERE) == set(PORT)
    assert len(CALLS) == 10


@pytest.mark.parametrize("name", sorted(set(PORT) - set(CALLS)))
def test_reads_differ_in_dialect_only(name: str) -> None:
    assert HERE[name][0] == ported(PORT[name][0])


def test_no_dialect_rule_is_idle() -> None:
    everything = "".join(text for text, _ in PORT.values())
    assert [old for old, _ in DIALECT if not re.search(old, everything)] == []


@pytest.mark.parametrize("name", CALLS)
def test_calls_fill_the_same_fields_and_reach_the_same_reasons(name: str) -> None:
    here, port = HERE[name][1], PORT[name][1]
    operation = port["operation"]
    for key in ("schema", "operation", "source", "kind", "commits", "timeout", "probe", "answer"):
        assert here.get(key) == port.get(key), key
    assert here["object"].removeprefix("dbo.") == port["object"].removeprefix("his.")
    assert sent(here, "@") == sent(port, "p_")
    assert filled(here) == filled(port)
    more = (set() if operation in LOCK_NOTHING else ONLY_MSSQL) | ONLY_MSSQL_IN.get(operation, set())
    assert reasons(here) - more == reasons(port)
    assert more <= reasons(here)
    assert here["outcome"]["from"] == {"column": "column1"}
    assert here["outcome"]["ok"] == ["T"]


def sent(values: dict[str, Any], mark: str) -> list[dict[str, Any]]:
    """IN parameters with what they are filled from; the type name is the engine's."""
    return [
        {key: value for key, value in item.items() if key != "type"} | {"name": item["name"].removeprefix(mark)}
        for item in values["params"]
        if item.get("dir", "in") == "in"
    ]


def filled(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Contract fields with their conversions; the column is the engine's."""
    return [
        {key: value for key, value in item.items() if key != "column"}
        for result in values.get("result", [])
        for item in result["fields"]
    ]


def reasons(values: dict[str, Any]) -> set[str]:
    outcome = values["outcome"]
    return {item["reason"] for item in outcome["errors"]} | {outcome["otherwise"]}


def test_the_set_is_clean() -> None:
    mapping = load_mapping_set(MSSQL, sources={"his": "mssql"}, timezone="Asia/Shanghai")
    port = load_mapping_set(WINNING, sources={"his": "postgresql"}, timezone="Asia/Shanghai")
    assert [problem.code for problem in mapping.warnings] == [problem.code for problem in port.warnings]
    assert set(mapping.operations) == set(port.operations)


def test_every_query_is_read_as_transact_sql() -> None:
    found = [values["sql"] for _, values in HERE.values() if "sql" in values]
    assert len(found) >= 10
    for sql in found:
        tree = sqlglot.parse_one(with_literals(sql), read="tsql")
        assert isinstance(tree, exp.Select)
        assert '"' not in sql
        assert not re.search(r"\bOFFSET\b|\bFETCH\b|\bLIMIT\b|::", sql), "2008 R2 pages with TOP"


# --- the sample -----------------------------------------------------------------------------------------------------


def code(name: str) -> str:
    return re.sub(r"--[^\n]*", "", (SAMPLE / name).read_text(encoding="utf-8"))


def batches(name: str) -> list[str]:
    return [piece.strip() for piece in re.split(r"^GO$", code(name), flags=re.MULTILINE) if piece.strip()]


def test_the_schema_is_read_by_sqlglot() -> None:
    tables = 0
    for batch in batches("schema.sql"):
        for statement in batch.split(";\n"):
            if statement.strip().startswith(("CREATE TYPE", "SET ANSI")):
                continue  # sqlglot knows no alias types
            tree = sqlglot.parse_one(statement, read="tsql")
            assert isinstance(tree, exp.Create), statement[:60]
            tables += tree.args["kind"] == "TABLE"
    assert tables == 19


def test_the_procedures_are_read_by_sqlglot() -> None:
    unread = []
    for batch in batches("procedures.sql"):
        try:
            trees = [tree for tree in sqlglot.parse(batch, read="tsql") if isinstance(tree, (exp.Create, exp.Set))]
        except sqlglot.errors.ParseError:
            trees = []
        if not trees:
            unread.append(re.findall(r"dbo\.(\w+)", batch)[0])
    assert unread == ["fn_yysj"]  # sqlglot does not know (@a - 1) * @b inside DATEADD


def test_the_schema_has_the_tables_and_columns_of_the_port() -> None:
    port = columns((PACKS / "winning" / "sample" / "schema.sql").read_text(encoding="utf-8"))
    here = columns((SAMPLE / "schema.sql").read_text(encoding="utf-8"))
    for new, old in (("gh_nghzdk", "gh_ghzdk"), ("sf_nbrjsk", "sf_brjsk")):  # LIKE … there, written out here
        assert here.pop(new) == here[old]
    assert here == port


def columns(text: str) -> dict[str, list[str]]:
    text = re.sub(r"--[^\n]*", "", text).replace(" WITH (fillfactor = 80)", "")
    found = {}
    for name, body in re.findall(r"CREATE TABLE \w+\.(\w+) \((.*?)\)[^()]*;", text, re.DOTALL):
        pieces = [piece.split() for piece in re.split(r",(?![^(]*\))", body)]
        if pieces[0][0] != "LIKE":
            found[name.lower()] = [words[0].lower() for words in pieces]
    return found


def procedures(text: str, start: str) -> Iterator[tuple[str, str]]:
    """Name and body of each routine that a call can reach."""
    pieces = re.split(rf"CREATE (?:PROCEDURE|FUNCTION|VIEW) {start}\.", text)
    for piece in pieces[1:]:
        yield re.split(r"\W", piece, maxsplit=1)[0].lower(), piece


def test_procedures_say_what_the_port_says() -> None:
    port = dict(procedures((WINNING.parent / "sample" / "procedures.sql").read_text(encoding="utf-8"), "his"))
    here = dict(procedures(code("procedures.sql"), "dbo"))
    renamed = {"fn_qh": "usp_yy_qh", "fn_yygz": "usp_yy_yygz", "fn_thgz": "usp_gh_thgz"}
    for name, body in port.items():
        texts = {text for text in re.findall(r"o_msg := '([^']*)", body) if not ONLY_PORT.search(text)}
        if texts:
            ours = said(here[renamed.get(name, name)])
            assert ours - ONLY_HERE == texts, name


def said(body: str) -> set[str]:
    """The beginnings of the texts that a procedure of SQL Server refuses with."""
    found = set(re.findall(r"SELECT 'F', '([^']*)'", body)) | set(re.findall(r"@text = '([^']+)'", body))
    return found | set(re.findall(r"(?:THEN|ELSE) '([^'@]{5,})'", body))


def test_every_text_has_a_reason_and_every_reason_a_text() -> None:
    bodies = dict(procedures(code("procedures.sql"), "dbo"))
    for name in CALLS:
        values = HERE[name][1]
        body = bodies[values["object"].removeprefix("dbo.")]
        texts = said(body)
        for helper in re.findall(r"EXEC dbo\.(usp_yy_qh|usp_yy_yygz|usp_gh_thgz)", body):
            texts |= said(bodies[helper])
        if values["operation"] in LOCK_NOTHING:
            texts = {text for text in texts if not text.startswith("该号为医疗保险号")}  # never said with @yb = 1
        parts = {item["text"] for item in values["outcome"]["errors"]}
        assert [text for text in texts if not any(part in text for part in parts)] == [], name
        assert [part for part in parts if not any(part in text for text in texts)] == [], name


def test_the_list_of_texts_is_complete() -> None:
    head = (SAMPLE / "procedures.sql").read_text(encoding="utf-8").split("SET ANSI_NULLS", 1)[0]
    listed = {
        re.split(r"【|  ", line[4:], maxsplit=1)[0].strip()
        for line in head.splitlines()
        if re.match(r"--  \S+  ", line)
    }
    told = {
        re.split("【", text, maxsplit=1)[0]
        for _, body in procedures(code("procedures.sql"), "dbo")
        for text in said(body)
    }
    assert told == listed - {"text of 'F'"}


def test_procedures_are_whole_and_answer_one_row() -> None:
    text = code("procedures.sql")
    assert '"' not in text  # no double-quoted literals in ours
    assert not re.search(r"\b(COMMIT|ROLLBACK|BEGIN TRAN\w*)\b", text)
    for batch in batches("procedures.sql"):
        plain = re.sub(r"'[^']*'", "''", batch)
        assert plain.count("(") == plain.count(")"), batch[:60]
        assert len(re.findall(r"\b(?:BEGIN|CASE)\b", plain)) == len(re.findall(r"\bEND\b", plain)), batch[:60]
    for name, body in procedures(text, "dbo"):
        if name.startswith("usp_"):
            assert body.index("SET NOCOUNT ON") < body.index("DECLARE"), name
            assert not re.search(r"\bOUTPUT\b", body.split(" AS\n", 1)[0]) or name in {
                "usp_yy_ddsd",
                "usp_yy_qh",
                "usp_yy_yygz",
                "usp_gh_hc",
                "usp_gh_dj",
                "usp_gh_js",
                "usp_gh_thgz",
            }


def with_params(here: str, port: str) -> str:
    """A call of this pack with the IN parameters of the port."""
    wanted = [
        re.sub(r', type = "\w+"', "", line).replace('name = "p_', 'name = "@')
        for line in port.splitlines()
        if line.startswith('  { name = "p_')
    ]
    lines = [line for line in here.splitlines() if not line.startswith('  { name = "@')]
    at = lines.index("params = [") + 1
    return "\n".join([*lines[:at], *wanted, *lines[at:]]) + "\n"


if __name__ == "__main__":
    for file, (text, values) in PORT.items():
        target = MSSQL / file
        is_call = values.get("kind") == "procedure"
        written = with_params(target.read_text(encoding="utf-8"), text) if is_call else ported(text)
        target.write_text(written, encoding="utf-8")
