"""Reports R1 R2 R3 R4 R8 R9 of every pack, against the seeds that its sample HIS was made from.

All samples hold the same people and orders, so every HIS must give the very same sums; what the window then does must
show in the next run.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from his_db.report_rows import row_values
from his_db.sample import SMALL
from his_db.samples.population import LEVELS, RegistrationSeed, World, build_world
from tests.conformance.packs.hospital import SILENT_STOP, Hospital

NAMES = ["R1", "R2", "R3", "R4", "R8", "R9"]
TITLES = {  # domain facts §6.2
    "R1": "日期 院区 渠道 科室代码 科室名称 医生工号 医生姓名 号别 挂号人次 退号人次 净人次 挂号费 诊查费 专家费 其他费(病历本/卡) "
    "应收合计 优惠减免 实收合计 其中:微信 支付宝 现金 银行卡 医保统筹 医保个账 其他基金 退费金额 净收入 未日结笔数",
    "R2": "操作员号 姓名 起止时间 起止票据号 票据张数 作废/退号张数 挂号总额 现金 支票 微信 支付宝 银行卡 医保支付 预交金 其他应收 "
    "货币误差(舍入) 退款合计 应缴金额 结账时间 结账单号 财务复核人 复核时间",
    "R4": "退费日期时间 退费发起方 操作员 原挂号日期 就诊日期 患者姓名 门诊号 科室 医生 号序 HIS原单据号 HIS退费单据号 160订单号 "
    "商户订单号 微信交易号 退款单号 原金额 退现金 退医保统筹 退个账 退款方式 退款状态 医保撤销流水 票据回收号 原因 是否已日结 是否跨日/跨月",
}
CHANNELS = {"160": "160", "wechat": "微信", "kiosk": "自助机", "window": "窗口"}
UNINSURED = {"neusoft"}  # its sample has no 医保 in the past
Row = dict[str, Any]


class Sink:
    def __init__(self) -> None:
        self.rows: list[bytes] = []

    def begin(self) -> None:
        self.rows.clear()

    def take(self, rows: Sequence[bytes]) -> None:
        self.rows += rows


async def run(h: Hospital, name: str, first: dt.date, last: dt.date) -> list[Row]:
    report, sink = h.his.reports()[name], Sink()
    reading = await h.his.read_report(report, (first, last), sink, stopped=lambda: False)
    assert reading.rows == len(sink.rows)
    names = [column.name for column in report.definition.columns]
    return [dict(zip(names, row_values(row), strict=True)) for row in sink.rows]


def total(rows: Sequence[Row], *names: str) -> list[int]:
    return [sum(row[name] or 0 for row in rows) for name in names]


@pytest.fixture
def world(hospital: Hospital) -> World:
    return build_world(hospital.today, SMALL, 160)


@pytest.fixture
def days(hospital: Hospital) -> tuple[dt.date, dt.date]:
    """The time before today: what other tests do at the window is not in it."""
    return hospital.today - dt.timedelta(days=30), hospital.today - dt.timedelta(days=1)


def moved(world: World, days: tuple[dt.date, dt.date]) -> list[tuple[RegistrationSeed, int, str]]:
    """Each payment and refund of those days: order, signed 分, who."""
    found = []
    for order in world.registrations:
        fee = world.schedules[order.schedule].fee_fen
        if order.paid is not None and days[0] <= order.paid.date() <= days[1]:
            found.append((order, fee, order.operator))
        if order.state == "REFUNDED" and order.changed is not None and days[0] <= order.changed.date() <= days[1]:
            found.append((order, -fee, order.changed_by))
    return found


def test_columns_are_those_of_the_facts(hospital: Hospital) -> None:
    reports = hospital.his.reports()
    assert sorted(reports) == NAMES
    for name, titles in TITLES.items():
        assert [column.title for column in reports[name].definition.columns] == titles.split()
    assert all(report.cron is not None for report in reports.values())


async def test_income_is_what_was_paid_and_given_back(hospital: Hospital, world: World, days: Any) -> None:
    rows = await run(hospital, "R1", *days)
    expected: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for order, fen, _ in moved(world, days):
        sums = expected[CHANNELS[order.channel]]
        sums[0 if fen > 0 else 1] += 1
        sums[2 if fen > 0 else 3] += abs(fen)
    found = {
        channel: total([row for row in rows if row["qd"] == channel], "ghrc", "thrc", "sshj", "tfje")
        for channel in {row["qd"] for row in rows}
    }
    assert found == expected
    for row in rows:
        assert row["yshj"] == row["ghf"] + row["zcf"] + row["zjf"] + row["qtf"]
        assert row["sshj"] == row["yshj"] - row["yhjm"]
        assert row["sshj"] == sum(row[way] for way in ("wx", "zfb", "xj", "yhk", "tc", "gz", "qtjj"))
        assert (row["jsr"], row["jrc"]) == (row["sshj"] - row["tfje"], row["ghrc"] - row["thrc"])
        assert days[0].isoformat() <= row["rq"] <= days[1].isoformat()
        assert row["ksdm"]
        assert row["ksmc"] == row["ksmc"].strip()
    insured = [world.insured(order) for order, fen, _ in moved(world, days) if fen > 0]
    parts = [(seed.fund_fen, seed.account_fen) for seed in insured if seed is not None]
    if hospital.name not in UNINSURED:
        assert total(rows, "tc", "gz") == [sum(part) for part in zip(*parts, strict=True)] if parts else [0, 0]
    level = {order.index: LEVELS[world.schedules[order.schedule].level] for order in world.registrations}
    paid = [level[order.index] for order, fen, _ in moved(world, days) if fen > 0]
    assert total(rows, "ghf") == [sum(register for _, register, _ in paid)]


async def test_every_summary_has_the_same_sums(hospital: Hospital, days: Any) -> None:
    income, rows = await run(hospital, "R1", *days), await run(hospital, "R3", *days)
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["fs"]].append(row)
    assert list(groups) == ["按科室", "按医生", "按渠道", "按支付方式", "按号别", "按时段"]
    for name, group in groups.items():
        assert total(group, "sshj", "tfje", "jsr") == total(income, "sshj", "tfje", "jsr"), name
        if name != "按支付方式":
            assert total(group, "ghrc", "thrc", "jrc") == total(income, "ghrc", "thrc", "jrc"), name
        assert all(row["mc"] for row in group)


async def test_refunds_line_by_line(hospital: Hospital, world: World, days: Any) -> None:
    rows = await run(hospital, "R4", *days)
    back = [order for order, fen, _ in moved(world, days) if fen < 0]
    assert len(rows) == len(back) > 0
    assert total(rows, "yje") == total(await run(hospital, "R1", *days), "tfje")
    assert all(row["yje"] == row["txj"] + row["ttc"] + row["tgz"] for row in rows)
    assert sorted(row["ddh"] for row in rows if row["ddh"]) == sorted(o.order_no for o in back if o.channel == "160")
    by_number = {row["ddh"]: row for row in rows if row["ddh"]}
    for order in back:
        if order.channel == "160":
            row = by_number[order.order_no]
            assert order.changed is not None
            assert order.paid is not None
            assert row["tfsj"] == f"{order.changed:%Y-%m-%d %H:%M:%S}"
            assert (row["czy"], row["yghrq"]) == (order.changed_by, f"{order.paid:%Y-%m-%d}")
            stopped = bool(world.schedules[order.schedule].stopped)
            assert row["fqf"] == ("停诊自动" if stopped else "患者线上" if order.changed_by == "jk160" else "窗口")
            if row["txj"]:
                assert (row["tkdh"], row["tkzt"]) == (order.refund_no or None, "成功" if order.refund_no else "处理中")
            name = world.patients[order.patient].name.strip()
            assert "*" in row["hzxm"]
            assert row["hzxm"] != name


async def test_sheets_ask_no_cash_for_online_money(hospital: Hospital, world: World, days: Any) -> None:
    rows = await run(hospital, "R2", days[0], hospital.today + dt.timedelta(days=1))
    closed = [
        item for item in moved(world, days) if (item[0].paid if item[1] > 0 else item[0].changed).date() < days[1]
    ]  # type: ignore[union-attr]
    assert total(rows, "ze", "tk") == [sum(f for _, f, _ in closed if f > 0), -sum(f for _, f, _ in closed if f < 0)]
    assert total(rows, "pjzs", "zfzs") == [sum(f > 0 for _, f, _ in closed), sum(f < 0 for _, f, _ in closed)]
    for row in rows:
        assert row["ze"] == sum(row[way] for way in ("xj", "zp", "wx", "zfb", "yhk", "yb", "yjj", "qt"))
        assert row["jzsj"]
        assert row["jzdh"]
    online = [row for row in rows if row["czyh"] == "jk160"]
    assert online
    assert total(online, "xj", "yjje") == [0, 0]
    assert sum(total(online, "wx", "yb")) > 0


async def test_operations_by_day_and_channel(hospital: Hospital, world: World, days: Any) -> None:
    rows = await run(hospital, "R9", *days)
    for row in rows:
        assert row["yy"] == row["qx"] + row["th"] + row["tz"] + row["yd"]
        assert row["yd"] == row["qh"] + row["sy"]
        assert row["qhl"] == (None if not row["yd"] else int(row["qh"] * 10000 / row["yd"] + 0.5))
        assert row["thl"] == (None if not row["jf"] else int(row["th"] * 10000 / row["jf"] + 0.5))
    platform = [
        o for o in world.registrations if o.channel == "160" and days[0] <= world.schedules[o.schedule].day <= days[1]
    ]
    ours = [row for row in rows if row["qd"] == "160"]
    states = [order.state for order in platform]
    assert total(ours, "yy", "qx", "th", "jz") == [
        len(platform), states.count("CANCELLED"), states.count("REFUNDED"), states.count("VISITED"),
    ]  # fmt: skip


async def test_what_the_window_does_shows(hospital: Hospital) -> None:
    """A refund and a 停诊 of today."""
    h = hospital
    span = (h.today - dt.timedelta(days=1), h.today + dt.timedelta(days=30))
    income, stops = await run(h, "R1", *span), await run(h, "R8", *span)
    orders = [row for row in h.window.orders(channel_only=True, states=("PAID",), limit=50) if row.platform_order_no]
    refunded = orders[0]
    witness = next(row for row in orders[1:] if row.schedule_id != refunded.schedule_id)
    h.window.refund(refunded.his_id, operator="0931")
    h.window.suspend_schedule(witness.schedule_id, operator="0931", reason="医生临时手术")
    after = await run(h, "R1", *span)
    before_sums, after_sums = total(income, "thrc", "tfje", "jsr"), total(after, "thrc", "tfje", "jsr")
    assert [new - old for new, old in zip(after_sums, before_sums, strict=True)] == [
        1, refunded.paid_fen, -refunded.paid_fen,
    ]  # fmt: skip
    row = next(row for row in await run(h, "R4", *span) if row["ddh"] == refunded.platform_order_no)
    assert (row["czy"], row["fqf"], row["tkzt"]) == ("0931", "窗口", "处理中")
    now = await run(h, "R8", *span)
    assert len(now) == len(stops) + 1
    assert total(now, "wcl")[0] > total(stops, "wcl")[0]
    assert total(now, "wtje")[0] >= total(stops, "wtje")[0] + witness.paid_fen
    if h.name not in SILENT_STOP:
        notice = max(now, key=lambda each: each["tzsj"])
        assert (notice["czy"], notice["yy"]) == ("0931", "医生临时手术")
