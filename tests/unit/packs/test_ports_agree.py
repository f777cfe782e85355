"""SQL Server's and Oracle's procedures run nowhere here: routine by routine they answer, ask and write what their ports do, which run.

A refusal that moves to another place, a state compared with another code, a column that is not written on one side: each fails here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from his_db.mapping.load import load_mapping_set
from tests.unit.packs.routines import Answer, Routine, State, Write, routines, states

PACKS = Path(__file__).resolve().parents[3] / "his_db" / "packs"


def sql(*parts: str) -> str:
    return PACKS.joinpath(*parts).read_text(encoding="utf-8")


# --- 卫宁: SQL Server and its port ----------------------------------------------------------------------------------

# What the port has as functions is a procedure with OUTPUT parameters on SQL Server.
RENAMED = {
    "fn_qh": "usp_yy_qh", "fn_yygz": "usp_yy_yygz", "fn_thgz": "usp_gh_thgz", "fn_gh_dj": "usp_gh_dj", "fn_gh_js": "usp_gh_js",
    "fn_hc": "usp_gh_hc",
}  # fmt: skip
WINNING_STATES = {"jlzt", "tzbz", "zt", "lx", "jsbz", "fzbz", "ybjszt"}
_TEXT = re.compile(r"o_msg := '([^']*)|select 'f', '([^']*)|text = '([^']+)|(?:then|else) '([^'@]{5,})'")
# Success, and "done before", are "T" there; the lock of the order number can be refused there alone.
_ONE_SIDE = re.compile(r"^成功$|请勿重复推送|系统忙")


def winning_routines() -> dict[str, tuple[Routine, Routine]]:
    """Name -> the port's and SQL Server's."""
    start = r"CREATE (?:PROCEDURE|FUNCTION) {}\."
    port = routines(sql("winning", "sample", "procedures.sql"), start.format("his"), ["his"], ["fn_qlgqsd"])
    text = sql("winning_mssql", "sample", "procedures.sql")
    for variable, column in (("@zjlzt", "@jlzt"), ("@pjlzt", "@jlzt"), ("@ybzt", "@jlzt")):
        text = text.replace(variable, column)
    text = re.sub(r", @\w+ = \w+(?= WHERE)", "", text)  # UPDATE … SET …, @a = a keeps what RETURNING a INTO v_a keeps
    here = routines(text, start.format("dbo"), ["dbo"])
    pairs = {name: (port[name], here[RENAMED.get(name, name)]) for name in port if RENAMED.get(name, name) in here}
    alone = {name for name in port if name not in pairs}
    assert alone == {"fn_hxsj", "fn_rq8", "fn_ddsd"}  # plain dates, and the advisory lock
    assert set(here) - {RENAMED.get(name, name) for name in pairs} == {"usp_yy_ddsd"}
    return pairs


WINNING = winning_routines()


@pytest.mark.parametrize("name", sorted(WINNING))
def test_winning_refuses_in_the_same_order_and_for_the_same_states(name: str) -> None:
    port, here = (item.answers(_TEXT, WINNING_STATES, _ONE_SIDE) for item in WINNING[name])
    assert [item.text for item in here] == [item.text for item in port]
    assert here == port


# On SQL Server a key is an IDENTITY, so that what is made of it is written afterwards: routine -> (table, columns of the
# port's INSERT, the one of the UPDATE, its key).
_OF_THE_KEY = {
    "usp_gh_jbxxdj": ("sf_brxxk", {"patid", "blh"}, "blh", "patid"),
    "fn_hc": ("gh_ghzdk", {"jssjh"}, "jssjh", "xh"),
}
_NUMBERED = {("", "", "'seq_patid'"), ("", "", "'seq_blh'"), ("", "", "'m'")}


@pytest.mark.parametrize("name", sorted(WINNING))
def test_winning_writes_the_same(name: str) -> None:
    port, here = (item.writes(WINNING_STATES) for item in WINNING[name])
    if name in _OF_THE_KEY:
        table, columns, later, key = _OF_THE_KEY[name]
        here.remove(Write("update", table, (later,), frozenset(), frozenset({(key, "=")})))
        at = [item.table for item in port].index(table) if name != "fn_hc" else 1
        plain = tuple(column for column in port[at].columns if column not in columns)
        assert set(port[at].columns) - set(plain) == columns
        port[at] = replace(port[at], columns=plain, states=port[at].states - _NUMBERED)
    if name == "fn_qh":  # the sweep stands in the loop there, before it is called here
        port, here = sorted(port, key=repr), sorted(here, key=repr)
    assert here == port


def test_the_row_of_t_has_the_columns_that_the_mapping_reads() -> None:
    found = load_mapping_set(PACKS / "winning_mssql" / "mappings", sources={"his": "mssql"}, timezone="Asia/Shanghai")
    text = re.sub(r"--[^\n]*", "", sql("winning_mssql", "sample", "procedures.sql"))
    read = 0
    for mapping in found.operations.values():
        if mapping.kind != "procedure":
            continue
        name = mapping.values["object"].removeprefix("dbo.")
        body = text.split(f"PROCEDURE dbo.{name} ", 1)[1].split("\nGO\n", 1)[0]
        wanted = {column for result in mapping.results for column in result.columns() if not column.startswith("@")}
        rows = re.findall(r"SELECT 'T'(?:, ([^;]*?))?(?=\s+FROM\b|;)", body)
        assert rows, name
        for row in rows:
            columns = named(row)
            assert wanted <= columns, (name, row)
        read += len(wanted)
    assert read >= 8  # most of what a call tells is read back by another operation


def named(row: str) -> set[str]:
    """Names of the columns of a row: those that have one, and `column<place>` of the others."""
    found = {"column1"}
    depth, piece, pieces = 0, "", []
    for sign in [*row, ","]:
        depth += (sign == "(") - (sign == ")")
        if sign == "," and not depth:
            pieces.append(piece.strip())
            piece = ""
        else:
            piece += sign
    for at, item in enumerate(filter(None, pieces), 2):
        plain = re.fullmatch(r"(?:\w+\.)?(\w+)", item)
        found.add(plain[1] if plain else f"column{at}")
    return found


# --- 东软: the package and its port ---------------------------------------------------------------------------------

_VERDICT = re.compile(r"o_code := (-?\d+); o_msg := '([^']*)'")
_NEVER = re.compile(r"(?!)")
NEUSOFT_STATES = {
    "order_state", "lock_state", "valid_flag", "pub_flag", "ynsee", "trans_type", "cancel_flag", "balance_flag", "kind", "valid_state",
    "is_valid", "paykind_code", "type_code", "ynbook", "pact_code",
}  # fmt: skip
# What is a look of its own there, and stands in the routine here.
_LOOKS = ("x_registration", "x_booking", "x_schema")


def neusoft_routines() -> dict[str, tuple[Routine, Routine]]:
    """Name -> the package's and the port's."""
    text = sql("neusoft", "sample", "oracle", "package.sql")
    body = text[text.index("PACKAGE BODY") :]
    package = routines(body, r"\n  (?:PROCEDURE|FUNCTION) ", ["neuhis", "pkg_160"], _LOOKS)
    port = routines(
        sql("neusoft", "sample", "postgresql", "procedures.sql"),
        r"CREATE (?:PROCEDURE|FUNCTION) pkg_160\.",
        ["neuhis", "pkg_160"],
    )
    assert set(package) == set(port)
    return {name: (package[name], port[name]) for name in package}


NEUSOFT = neusoft_routines()


@pytest.mark.parametrize("name", sorted(NEUSOFT))
def test_neusoft_answers_in_the_same_order_and_for_the_same_states(name: str) -> None:
    package, port = (item.answers(_VERDICT, NEUSOFT_STATES, _NEVER) for item in NEUSOFT[name])
    assert [item.text for item in package] == [item.text for item in port]
    assert package == port


# Oracle takes '' for NULL by itself; the time of a call is one variable there.
_SAME: tuple[tuple[str, str], ...] = (
    (r"lpad\(nextval\('(\w+)'\)::text, ", r"lpad(\1.nextval, "),
    (r"nullif\((\w+), ''\)", r"\1"),
    (r"\bf_now\(\)", "now"),
    (r"\bf_lock_limit\(\)", "limit"),
    (r"date_trunc\('day', now\)", "today"),
    (r"\bnvl\(", "coalesce("),
    (r" returning .*$", ""),
    (r"case when own_cost > 0 then '4' else '6' end", "mode"),
    (r"f_segment\(s\.begin_time, s\.end_time, s\.reg_lmt \+ s\.tel_lmt, seeno\)", "begin"),
    (r"f_segment\(s\.begin_time, s\.end_time, s\.reg_lmt \+ s\.tel_lmt, seeno \+ 1\)", "end"),
)


def statements(routine: Routine) -> list[str]:
    """Every writing statement, whole."""
    found = re.findall(r"\b(?:insert into|update|delete from) \w+ [^;]*", routine.text)
    for old, new in _SAME:
        found = [re.sub(old, new, item) for item in found]
    return [item for item in found if not item.startswith("update skip")]


@pytest.mark.parametrize("name", sorted(NEUSOFT))
def test_neusoft_writes_the_same_word_for_word(name: str) -> None:
    package, port = NEUSOFT[name]
    assert statements(package) == statements(port)


def test_no_rule_of_dialect_is_idle() -> None:
    everything = "".join(item.text for pair in NEUSOFT.values() for item in pair)
    late = {"date_trunc", "case when", "f_segment"}  # behind others
    assert [old for old, _ in _SAME if not old.startswith(tuple(late)) and not re.search(old, everything)] == []


def cursor(routine: Routine) -> list[str]:
    """Names of the columns of o_cur."""
    found = re.search(r"open o_cur for select (.*?) (?:from|where)\b", routine.text)
    if found is None:
        return []
    return [item.split()[-1].rpartition(".")[2] for item in re.split(r",(?![^(]*\))", found[1])]


def test_the_cursor_has_the_same_columns_and_those_that_the_mapping_reads() -> None:
    found = load_mapping_set(PACKS / "neusoft" / "mappings", sources={"his": "oracle"}, timezone="Asia/Shanghai")
    called = {
        mapping.values["object"].lower().rpartition(".")[2]: mapping
        for mapping in found.operations.values()
        if mapping.kind == "procedure"
    }
    assert len(called) == 10
    for name, mapping in called.items():
        package, port = (cursor(item) for item in NEUSOFT[name])
        assert package == port, name
        assert package, name
        outs = {param.name.lower() for param in mapping.params}
        wanted = {column.lower() for result in mapping.results for column in result.columns()} - outs
        assert wanted <= set(package), name


# --- the proof itself -----------------------------------------------------------------------------------------------


def test_a_drift_is_seen() -> None:
    """One letter on one side is another answer."""
    text = "CREATE PROCEDURE x.p_a(p_no varchar) AS IF v_o.zt = 1 THEN o_msg := '已取消'; UPDATE x.t SET zt = 2, sj = v_n WHERE xh = 1; END"

    def read(given: str) -> tuple[list[Answer], list[Write]]:
        routine = routines(given, r"CREATE PROCEDURE x\.", ["x"])["p_a"]
        return routine.answers(_TEXT, {"zt"}, _ONE_SIDE), routine.writes({"zt"})

    whole: tuple[list[Answer], list[Write]] = read(text)
    state: State = ("zt", "=", "1")
    assert whole[0] == [Answer("已取消", frozenset({state}))]
    assert whole[1] == [Write("update", "t", ("zt", "sj"), frozenset({("zt", "=", "2")}), frozenset({("xh", "=")}))]
    changes: Mapping[str, str] = {
        "zt = 1": "zt = 2",
        "已取消": "已停诊",
        "zt = 2,": "zt = 3,",
        "sj =": "rq =",
        "UPDATE x.t": "UPDATE x.u",
        "xh = 1": "xh <> 1",
    }
    for old, new in changes.items():
        assert read(text.replace(old, new)) != whole, old
    assert states("NVL(v_r.FLAG, '0') <> '1'".lower(), {"flag"}) == {("flag", "<>", "'1'")}
