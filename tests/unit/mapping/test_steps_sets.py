"""Steps with several results: an order and its fee lines, each from its own SELECT, the lines in a list inside the order."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from his160.site.v1 import registration_pb2

from his_db.engines.sqlite import SqliteEngine
from his_db.errors import HisRefused
from his_db.generation import CompiledOperation, compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.mapping.trial import run_tests
from his_db.source import settings_from_url

ORDER = """
schema = 1
operation = "InsuredRegistrationService.GetInsuranceOrder"
kind = "steps"
[[step]]
name = "head"
sql = "SELECT dd, sq, je, zt FROM t WHERE dd = :order_no"
[[step]]
name = "lines"
skip_unless = "head"
sql = "SELECT xm, bm, mje FROM m WHERE dd = :order_no ORDER BY xm"
[[result]]
set = "head"
into = "order"
fields = [
  { to = "order_no", column = "dd" },
  { to = "appointment_id", column = "sq" },
  { to = "visit_no", column = "sq" },
  { to = "state", column = "zt" },
  { to = "total_fen", column = "je", money = "yuan" },
]
[[result]]
set = "lines"
into = "order.items"
rows = "many"
fields = [
  { to = "item_id", column = "xm" },
  { to = "national_code", column = "bm" },
  { to = "amount_fen", column = "mje", money = "yuan" },
]
[[test]]
name = "一张单两行费用"
given = { order_no = "T1" }
rows = [ { dd = "T1", sq = "9", zt = "BOOKED", je = 62.5 } ]
steps = { lines = [ { xm = "GHF", mje = 12.5 }, { xm = "ZCF", bm = "001102", mje = 50 } ] }
expect = { order = { total_fen = 6250, state = "BOOKED" }, "order.items" = [ { item_id = "GHF", national_code = "", amount_fen = 1250 }, { item_id = "ZCF", national_code = "001102" } ] }
[[test]]
name = "没有这张单"
rows = []
expect = { reason = "APPOINTMENT_NOT_FOUND" }
"""
TABLES = (
    "CREATE TABLE t (dd TEXT, sq TEXT, je REAL, zt TEXT)",
    "CREATE TABLE m (dd TEXT, xm TEXT, bm TEXT, mje REAL)",
    "INSERT INTO t VALUES ('T1', '9', 62.5, 'BOOKED'), ('T2', '8', 20, 'PAID')",
    "INSERT INTO m VALUES ('T1', 'ZCF', '001102', 50), ('T1', 'GHF', NULL, 12.5)",
)
NOW = datetime(2026, 3, 2, 9, 30)


@pytest.fixture
def order(tmp_path: Path) -> CompiledOperation:
    (tmp_path / "order.toml").write_text(ORDER, encoding="utf-8")
    mapping = load_mapping_set(tmp_path, sources={"his": "sqlite"}, timezone="Asia/Shanghai")
    assert [(found.name, found.problems) for found in run_tests(mapping) if not found.passed] == []
    return compile_generation(mapping).operation("InsuredRegistrationService.GetInsuranceOrder")


def test_header_and_lines_become_one_message(order: CompiledOperation, tmp_path: Path) -> None:
    file = tmp_path / "his.db"
    file.touch()
    settings = settings_from_url("his", f"sqlite:///{file}")
    session = SqliteEngine(settings).open(read_only=False)
    for statement in TABLES:
        session.run(statement, {}, max_rows=1)

    def ask(number: str) -> registration_pb2.InsuranceOrder:
        request = registration_pb2.GetInsuranceOrderRequest(order_no=number)
        answer = order.run(session, request, now=NOW)
        assert isinstance(answer, registration_pb2.GetInsuranceOrderResponse)
        return answer.order

    found = ask("T1")
    assert (found.appointment_id, found.total_fen) == ("9", 6250)
    assert [(line.item_id, line.national_code, line.amount_fen) for line in found.items] == [
        ("GHF", "", 1250),
        ("ZCF", "001102", 5000),
    ]
    assert list(ask("T2").items) == []
    with pytest.raises(HisRefused, match="no such row"):  # the lines were left out
        ask("T3")
    session.close()
