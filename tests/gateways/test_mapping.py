"""Gateway files as the DBA has them: `[[test]]` without keys or network, and the same operations over kind = "http"."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from his160.v1 import reason_pb2

from his_db import contract, registry
from his_db.document.problem import DocumentError
from his_db.document.shape import TableOf
from his_db.gateway import Gateway
from his_db.mapping.load import load_mapping_set
from his_db.mapping.trial import run_tests

EXAMPLES = Path(__file__).parent / "http_examples"
MANUAL = (Path(__file__).resolve().parents[2] / "docs" / "zh" / "gateways.md").read_text(encoding="utf-8")
WECHAT = """
schema = 1
gateway = "wechatpay"
source = "wechat"
note = "医院自己的商户号"
[options]
mchid = "1900000109"
appid = "wxd678efh567hg6787"
certificate_serial = "1DDE55AD98ED71D6EDD4A4A16996DE7B47773A8C"
private_key = "@file:/not/there/apiclient_key.pem"
platform_keys = [ { serial = "PUB_KEY_ID_1", key = "@file:/not/there/pub_key.pem" } ]
notify_url = "https://pay.hospital.example/notify/wechatpay"
[[test]]
name = "下单"
operation = "MerchantService.OpenTrade"
given = { out_trade_no = "T20260302001", order_no = "Y1", amount_fen = 1230, payer_openid = "o1" }
sends = { path = "/v3/pay/transactions/jsapi", "amount.total" = 1230, "payer.openid" = "o1", description = "预约挂号" }
reply = '{"prepay_id": "wx1"}'
expect = { "pay_parameters.package" = "prepay_id=wx1" }
[[test]]
name = "订单号重复"
operation = "MerchantService.OpenTrade"
given = { out_trade_no = "T20260302001", order_no = "Y1", amount_fen = 1230, payer_openid = "o1" }
status = 403
reply = '{"code": "OUT_TRADE_NO_USED", "message": "商户订单号重复"}'
expect = { reason = "PAYMENT_NUMBER_REUSED", text = "商户订单号重复" }
[[test]]
name = "代理服务器的错误页"
operation = "MerchantService.RefundTrade"
given = { out_trade_no = "T20260302001", out_refund_no = "R1", refund_fen = 1, total_fen = 1 }
status = 502
reply = '<html>'
expect = { reason = "OUTCOME_UNKNOWN" }
[[test]]
name = "账单"
operation = "MerchantService.GetTradeBill"
now = 2026-03-03 10:30:00
given = { day = 2026-03-02 }
replies = [
  '{"hash_type": "SHA1", "hash_value": "%s", "download_url": "https://api.mch.weixin.qq.com/v3/billdownload/file?token=x"}',
  '''%s''',
]
sends = { path = "/v3/bill/tradebill?bill_date=2026-03-02&bill_type=ALL&tar_type=GZIP" }
expect = { trades = 1, amount_fen = 1230, "rows.0.out_trade_no" = "T20260302001" }
"""
BILL = (
    "交易时间,微信订单号,商户订单号,交易状态,应结订单金额,退款金额,手续费\n"
    "`2026-03-02 09:30:00,`42,`T20260302001,`SUCCESS,`12.30,`0.00,`0.07380\n"
    "总交易单数,应结订单总金额,退款总金额,手续费总金额\n`1,`12.30,`0.00,`0.07380\n"
)


def test_a_gateway_file_is_tested_without_keys(tmp_path: Path) -> None:
    import hashlib

    text = WECHAT % (hashlib.sha1(BILL.encode()).hexdigest(), BILL)
    (tmp_path / "wechat.toml").write_text(text, encoding="utf-8")
    found = load_mapping_set(tmp_path, sources={"wechat": "http"}, timezone="Asia/Shanghai")
    outcomes = run_tests(found)
    assert [str(problem) for outcome in outcomes for problem in outcome.problems] == []
    assert len(outcomes) == 4
    # Without [options.mixed] the mixed operations are not there, and nobody had to say so.
    assert sorted(found.operations) == [
        "MerchantService.CloseTrade",
        "MerchantService.GetTradeBill",
        "MerchantService.OpenTrade",
        "MerchantService.QueryRefund",
        "MerchantService.QueryTrade",
        "MerchantService.RefundTrade",
    ]


def test_what_differs_is_shown_where_it_stands(tmp_path: Path) -> None:
    text = WECHAT % ("", "") + '[[test]]\nname = "x"\noperation = "MerchantService.QueryTrade"\n'
    text += 'given = { out_trade_no = "T20260302001" }\nsends = { path = "/v3/other" }\n'
    text += """reply = '{"out_trade_no": "T20260302001", "trade_state": "NOTPAY"}'\nexpect = { trade = { state = "PAID" } }\n"""
    (tmp_path / "wechat.toml").write_text(text, encoding="utf-8")
    found = load_mapping_set(tmp_path, sources={"wechat": "http"}, timezone="Asia/Shanghai")
    wrong = [outcome for outcome in run_tests(found) if not outcome.passed and outcome.name == "x"]
    (outcome,) = wrong
    assert {problem.code for problem in outcome.problems} == {"H239"}
    shown = " ".join(problem.message for problem in outcome.problems)
    assert "/v3/pay/transactions/out-trade-no/T20260302001?mchid=1900000109" in shown
    assert "UNPAID" in shown


def test_two_files_of_one_gateway_and_an_operation_mapped_twice(tmp_path: Path) -> None:
    first = WECHAT.split("[[test]]")[0]
    (tmp_path / "a.toml").write_text(first, encoding="utf-8")
    (tmp_path / "b.toml").write_text(first, encoding="utf-8")
    other = (EXAMPLES / "merchant" / "close_trade.toml").read_text(encoding="utf-8")
    (tmp_path / "c.toml").write_text(other, encoding="utf-8")
    with pytest.raises(DocumentError) as caught:
        load_mapping_set(tmp_path, sources={"wechat": "http", "pay": "http"}, timezone="Asia/Shanghai")
    assert [(problem.code, problem.place.file) for problem in caught.value.problems] == [
        ("H242", "a.toml"),
        ("H202", "b.toml"),
        ("H202", "c.toml"),
    ]


CHECK = """
schema = 1
operation = "RefundCheckService.CheckRefund"
source = "his"
kind = "query"
sql = "SELECT id FROM t WHERE no = :order_no"
[[result]]
rows = "one"
fields = [ { to = "appointment_id", column = "id" } ]
"""
NO_CHECK = """
schema = 1
operation = "RefundCheckService.CheckRefund"
kind = "unsupported"
why = "本院没有订单之外的退费规矩"
"""
SOURCES = {"wechat": "http", "insurance": "http", "mobile": "http", "pay": "http", "his": "sqlite"}


def money_warnings(folder: Path, *texts: str) -> list[str]:
    """The place of each H242."""
    for at, text in enumerate(texts):
        (folder / f"{at}.toml").write_text(text, encoding="utf-8")
    found = load_mapping_set(folder, sources=SOURCES, timezone="Asia/Shanghai").warnings
    told = [problem for problem in found if problem.code == "H242"]
    for problem in told:
        assert "RefundCheckService.CheckRefund" in problem.message
        assert "RefundCheckService.CheckRefund" in problem.message_zh
        assert "CheckRefund" in problem.fix
        assert "CheckRefund" in problem.fix_zh
    return [str(problem.place) for problem in told]


def test_money_that_goes_back_without_asking_the_his_is_told(tmp_path: Path) -> None:
    """Once for each file, where it says which operation gives money back."""
    gateways = [text for text in re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL) if text.startswith("schema = 1")]
    own = (EXAMPLES / "merchant" / "refund_trade.toml").read_text(encoding="utf-8")
    assert money_warnings(tmp_path, *gateways) == ["0.toml:2:11", "1.toml:2:11", "2.toml:2:11"]
    assert money_warnings(tmp_path, *gateways, CHECK) == []
    assert money_warnings(tmp_path, *gateways, NO_CHECK) == []  # somebody has thought about it, and says why
    (tmp_path / "3.toml").write_text('operation = "RefundCheckService.CheckRefund"\nkind = [', encoding="utf-8")
    with pytest.raises(DocumentError) as caught:
        load_mapping_set(tmp_path, sources=SOURCES, timezone="Asia/Shanghai")
    assert "H242" not in {problem.code for problem in caught.value.problems}  # it is there, and cannot be read
    for path in tmp_path.iterdir():
        path.unlink()
    state = (EXAMPLES / "merchant" / "refund_state.toml").read_text(encoding="utf-8")
    assert money_warnings(tmp_path, own, state) == ["0.toml:2:13"]
    (tmp_path / "1.toml").unlink()
    listed = WECHAT.split("[[test]]")[0].replace(
        "[options]", 'operations = ["MerchantService.QueryTrade", "?"]\n[options]'
    )
    assert money_warnings(tmp_path, listed.replace("?", "MerchantService.RefundTrade")) == ["0.toml:6:45"]
    assert money_warnings(tmp_path, listed.replace("?", "MerchantService.QueryRefund")) == []


@pytest.mark.parametrize("folder", sorted(path.name for path in EXAMPLES.iterdir()))
def test_the_same_operations_over_the_hospitals_own_interface(folder: str) -> None:
    found = load_mapping_set(EXAMPLES / folder, sources={"pay": "http"}, timezone="Asia/Shanghai")
    outcomes = run_tests(found)
    assert [str(problem) for outcome in outcomes for problem in outcome.problems] == []
    assert {outcome.mapping for outcome in outcomes} == set(found.operations)


@pytest.mark.parametrize("name", registry.GATEWAYS)
def test_a_gateway_does_internal_operations_only(name: str) -> None:
    gateway: Gateway = registry.load(registry.GATEWAYS[name])()
    assert gateway.name == name
    assert all(contract.operation(operation).is_internal for operation in gateway.operations)


@pytest.mark.parametrize("name", registry.GATEWAYS)
def test_the_manual_names_every_option_and_nothing_else(name: str) -> None:
    """Its section, or the whole page where another gateway's section describes an option of the same meaning."""
    gateway: Gateway = registry.load(registry.GATEWAYS[name])()
    section = MANUAL.partition(f"`{name}`\n")[2].partition("\n## ")[0]
    described = set(re.findall(r"`([a-z0-9_]+)`", "".join(re.findall(r"^\|([^|]*)\|", section, re.MULTILINE))))
    options = dict(gateway.options())
    mixed = options.get("mixed")
    inner = set(mixed.shape.fields) if mixed is not None and isinstance(mixed.shape, TableOf) else set()
    assert described - {"mixed"} == (set(options) - {"mixed"}) | inner


def test_the_examples_of_the_manual_are_good(tmp_path: Path) -> None:
    texts = [text for text in re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL) if text.startswith("schema = 1")]
    assert len(texts) == len(registry.GATEWAYS)
    for at, text in enumerate(texts):
        (tmp_path / f"{at}.toml").write_text(text, encoding="utf-8")
    sources = dict.fromkeys(("wechat", "insurance", "mobile"), "http")
    found = load_mapping_set(tmp_path, sources=sources, timezone="Asia/Shanghai")
    assert len(found.operations) == 6 + 16 + 5
    refusals = re.findall(r'reason = "([A-Z_]+)"', MANUAL)
    assert refusals
    assert all(f"REASON_{reason}" in reason_pb2.Reason.keys() for reason in refusals)  # noqa: SIM118 - no mapping
