"""`[outcome]` is total: every answer of an HIS means success, a reason, or "unknown", and nothing else can happen.

The predicates of success are those of real systems (domain facts 5.2, 1.5, 1.8): a row "T" / "F", Errcode 0, a flag 1, a
resultCode 200, an errmsg that is empty, a sentence that says 成功.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from his160.v1 import reason_pb2
from hypothesis import given
from hypothesis import strategies as st

from his_db.document.problem import DocumentError
from his_db.errors import HisBusy, HisError, HisRefused, MappingMismatch, OutcomeUnknown
from his_db.mapping.load import load_mapping_set
from his_db.mapping.outcome import Outcome

HEAD = """
schema = 1
operation = "AppointmentService.UnlockSlot"
kind = "procedure"
object = "usp_yy_unlockno"
params = [
  { name = "ddh", from = "order_no" },
  { name = "code", dir = "out", type = "int" },
  { name = "msg", dir = "out", type = "varchar(200)" },
]
[[result]]
fields = [ { to = "lock_id", column = "ddh" } ]
"""


def outcome(folder: Path, table: str) -> Outcome:
    """The table, checked as in a file."""
    (folder / "unlock.toml").write_text(f"{HEAD}[outcome]\n{table}", encoding="utf-8")
    found = load_mapping_set(folder, sources={"his": "mssql"}, timezone="Asia/Shanghai")
    return Outcome(found.operations["AppointmentService.UnlockSlot"].values["outcome"], "Unlock", is_read=False)


def judged(found: Outcome, code: Any, sentence: Any = None) -> str:
    """`ok`, or the short name of the reason."""
    answers = {"code": code, "msg": sentence, "column1": code, "column2": sentence}
    try:
        found.judge(lambda source: answers[source if isinstance(source, str) else source["column"]])
    except HisError as error:
        return reason_pb2.Reason.Name(error.reason).removeprefix("REASON_")
    return "ok"


WINNING = 'from = { column = "column1" }\nok = ["T"]\ntext = { column = "column2" }\n'


@pytest.mark.parametrize(
    ("table", "code", "sentence", "expected"),
    [
        (WINNING + 'otherwise = "HIS_REFUSED"', "T", None, "ok"),
        (WINNING + 'otherwise = "HIS_REFUSED"', "T ", "0001", "ok"),  # CHAR(2)
        (WINNING + 'otherwise = "HIS_REFUSED"', "F", "该号已被锁定", "HIS_REFUSED"),
        (
            WINNING + 'errors = [ { text = "已被锁定", reason = "SLOT_TAKEN" } ]\notherwise = "unknown"',
            "F",
            "该号已被锁定，请重选",
            "SLOT_TAKEN",
        ),
        (WINNING + 'otherwise = "unknown"', "F", "系统错误", "OUTCOME_UNKNOWN"),
        ('from = "code"\nok = [0]\notherwise = "unknown"', Decimal("0"), None, "ok"),  # Errcode
        ('from = "code"\nok = [1]\notherwise = "unknown"', "1", None, "ok"),  # @flag
        ('from = "code"\nok = [200]\notherwise = "unknown"', 200.0, None, "ok"),
        ('from = "code"\nok = [200]\notherwise = "unknown"', 0, None, "OUTCOME_UNKNOWN"),
        ('from = "code"\nok = [0, 1]\notherwise = "unknown"', 1, None, "ok"),  # resultCode: 1 无数据
        ('from = "msg"\nok = [""]\notherwise = "HIS_REFUSED"', None, None, "ok"),  # @errmsg of 新致, NULL in Oracle
        ('from = "msg"\nok = [""]\notherwise = "HIS_REFUSED"', None, "  ", "ok"),
        ('from = "msg"\nok = [""]\notherwise = "HIS_REFUSED"', None, "该排班已无号源", "HIS_REFUSED"),
        ('from = "code"\nok = [0]\notherwise = "unknown"', None, None, "OUTCOME_UNKNOWN"),
        ('from = "code"\ntext = "msg"\nok = [ { text = "成功" } ]\notherwise = "HIS_REFUSED"', -1, "解锁成功", "ok"),
        (
            'from = "code"\ntext = "msg"\nok = [ { text = "成功" } ]\notherwise = "HIS_REFUSED"',
            0,
            "失败",
            "HIS_REFUSED",
        ),
        # The HIS answers 0 for both, and only the sentence tells.
        (
            'from = "code"\ntext = "msg"\nok = [ { is = 0, text = "成功" } ]\n'
            'errors = [ { is = 0, text = "已解锁", reason = "LOCK_EXPIRED" } ]\notherwise = "unknown"',
            0,
            "该号已解锁",
            "LOCK_EXPIRED",
        ),
        ('from = "msg"\nok = [ { text = "成功" } ]\notherwise = "HIS_REFUSED"', None, "取消成功！", "ok"),
        ('from = "msg"\nok = [ { text = "成功" } ]\notherwise = "HIS_REFUSED"', None, None, "HIS_REFUSED"),
    ],
)
def test_success_as_real_systems_say_it(tmp_path: Path, table: str, code: Any, sentence: Any, expected: str) -> None:
    assert judged(outcome(tmp_path, table), code, sentence) == expected


def test_a_row_of_success_need_not_have_the_column_of_the_sentence(tmp_path: Path) -> None:
    found = outcome(tmp_path, WINNING + 'otherwise = "unknown"')

    def only_the_first(source: Any) -> Any:
        if source == {"column": "column1"}:
            return "T"
        raise MappingMismatch("no such column")

    found.judge(only_the_first)


ANSWERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(),
    st.binary(),
    st.sampled_from(["T", "F", "0", "1", "-9", 0, 1, -9, "", "已被锁定", "成功"]),
)


@given(code=ANSWERS, sentence=ANSWERS)
def test_every_answer_has_one_meaning(code: Any, sentence: Any) -> None:
    """Whatever comes back: success, or an error of the room that says what to do. Nothing else is raised."""
    table = {
        "from": "code",
        "text": "msg",
        "ok": [0, "T", {"text": "成功"}],
        "errors": [
            {"is": -9, "reason": "HIS_BUSY"},
            {"text": "已被锁定", "reason": "SLOT_TAKEN"},
            {"is": 1, "text": "过期", "reason": "LOCK_EXPIRED"},
        ],
        "otherwise": "unknown",
    }
    found = Outcome(table, "Unlock", is_read=False)
    try:
        found.judge(lambda source: {"code": code, "msg": sentence}[source])
    except HisRefused as error:
        assert error.reason in {reason_pb2.REASON_SLOT_TAKEN, reason_pb2.REASON_LOCK_EXPIRED}
    except (HisBusy, OutcomeUnknown):
        pass
    with pytest.raises(MappingMismatch):  # the same table of a read: nothing needs a probe
        Outcome({**table, "ok": ["never"], "errors": []}, "Read", is_read=True).judge(lambda source: code)


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ('ok = [0, { text = "成功" }]\nerrors = [ { is = 0, text = "超时", reason = "HIS_BUSY" } ]', "16:19 H224"),
        ('ok = [ { text = "成功" } ]\nerrors = [ { text = "没有成功", reason = "HIS_REFUSED" } ]', "16:21 H224"),
        ("ok = [0, 0]", "15:10 H224"),
        ("ok = [ {} ]", "15:8 H224"),
        ('ok = [ { is = 0 } ]\nerrors = [ { is = "0", reason = "HIS_BUSY" } ]', "16:19 H224"),
        ("", "13:2 H121"),
    ],
)
def test_a_table_that_says_two_things_is_refused(tmp_path: Path, table: str, place: str) -> None:
    with pytest.raises(DocumentError) as caught:
        outcome(tmp_path, f'from = "code"\n{table}\ntext = "msg"\notherwise = "unknown"')
    assert [f"{p.place.line}:{p.place.column} {p.code}" for p in caught.value.problems] == [place]
