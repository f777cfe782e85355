"""What every state store must do for money between systems: settlements, refunds, counters, steps of commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sync.money_book import RefundProgress, RefundRow, SettlementRow, SettlementState, TradeRow, TradeState
from sync.store import CommandRow, CommandState, Store, Transaction, open_store

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
async def store(store_place: str) -> AsyncIterator[Store]:
    opened = open_store(store_place, lambda: NOW)
    yield opened
    await opened.close()


def settlement(key: str, order: str = "T1", state: SettlementState = SettlementState.SETTLED) -> SettlementRow:
    numbers = {"setl_id": f"S{key}", "mdtrt_id": f"M{key}", "out_trade_no": "W1", "pay_token": f"token-{key}"}
    return SettlementRow(key, order, state, NOW, NOW, record=b"\x0a\x01x", **numbers)


def step(name: str, state: CommandState, parent: str = "p") -> CommandRow:
    return CommandRow(
        request_id=f"{parent}.{name}",
        operation="MerchantService.RefundTrade",
        payload_hash=b"",
        essence_hash=b"",
        order_key="T1",
        natural_key="out_refund_no:R1",
        state=state,
        received_time=NOW,
        sent_time=NOW,
        finished_time=NOW,
        parent=parent,
        step=name,
    )


async def test_settlements_are_found_by_each_of_their_numbers(store: Store) -> None:
    rows = [settlement("1"), replace(settlement("2"), created_time=NOW + DAY), settlement("3", "T2")]

    def fill(work: Transaction) -> None:
        for row in rows:
            work.settlements.put(row)
        work.settlements.put(replace(rows[0], state=SettlementState.REVERSED))

    await store.write(fill)

    def look(work: Transaction) -> None:
        table = work.settlements
        assert [row.key for row in table.of_order("T1")] == ["2", "1"]  # newest first
        assert table.of_order("") == table.of_numbers("", "") == []
        assert [row.key for row in table.of_numbers("S3", "")] == ["3"]
        assert [row.key for row in table.of_numbers("", "M1")] == ["1"]
        assert table.get("1") == replace(rows[0], state=SettlementState.REVERSED)
        assert table.get("9") is None
        assert [row.key for row in table.listed(SettlementState.SETTLED, NOW + DAY, 9)] == ["2", "3"]
        assert table.listed(SettlementState.SETTLED, NOW, 9) == []

    await store.read(look)


async def test_a_visit_that_may_be_open_is_never_pruned(store: Store) -> None:
    def work(work: Transaction) -> None:
        for number, state in enumerate(SettlementState):
            work.settlements.put(settlement(str(number), state=state))
        assert work.settlements.prune(NOW) == 0
        assert work.settlements.prune(NOW + DAY) == 4
        assert {row.state for row in work.settlements.of_order("T1")} == {
            SettlementState.OPEN,
            SettlementState.QUOTED,
        }

    await store.write(work)


async def test_trades_are_looked_at_when_due_until_they_ended(store: Store) -> None:
    def work(work: Transaction) -> None:
        table = work.trades
        first = TradeRow("W1", "T1", 2500, TradeState.OPEN, NOW, next_time=NOW + DAY)
        table.put(first)
        table.put(replace(first, out_trade_no="W2", state=TradeState.UNCONFIRMED, next_time=NOW))
        table.put(replace(first, out_trade_no="W3", state=TradeState.ENDED, next_time=None, final_time=NOW))
        assert [row.out_trade_no for row in table.due(NOW, 9)] == ["W2"]
        assert [row.out_trade_no for row in table.due(NOW + DAY, 9)] == ["W2", "W1"]
        assert [row.out_trade_no for row in table.due(NOW + DAY, 1)] == ["W2"]
        assert [row.out_trade_no for row in table.listed(TradeState.UNCONFIRMED, 9)] == ["W2"]
        assert (table.get("W1"), table.get("W9"), table.unconfirmed()) == (first, None, 1)
        ended = replace(first, state=TradeState.ENDED, next_time=None, final_time=NOW + DAY, asked=3, detail="closed")
        table.put(ended)
        assert table.get("W1") == ended
        assert (table.prune(NOW), table.prune(NOW + DAY), table.prune(NOW + 2 * DAY)) == (0, 1, 1)
        assert table.get("W2") is not None

    await store.write(work)


async def test_refunds_are_asked_for_when_due_and_kept_until_they_ended(store: Store) -> None:
    def work(work: Transaction) -> None:
        table = work.refunds
        first = RefundRow("R1", "T1", "W1", 2500, RefundProgress.PROCESSING, NOW, next_time=NOW + DAY)
        table.put(first)
        table.put(replace(first, out_refund_no="R2", next_time=NOW))
        table.put(replace(first, out_refund_no="R3", state=RefundProgress.DONE, next_time=None, final_time=NOW))
        abnormal = replace(first, out_refund_no="R4", state=RefundProgress.ABNORMAL, next_time=NOW + 2 * DAY)
        table.put(abnormal)
        assert [row.out_refund_no for row in table.due(NOW, 9)] == ["R2"]
        assert [row.out_refund_no for row in table.due(NOW + DAY, 9)] == ["R2", "R1"]
        assert [row.out_refund_no for row in table.due(NOW + DAY, 1)] == ["R2"]
        assert [row.out_refund_no for row in table.due(NOW + 2 * DAY, 9)] == ["R2", "R1", "R4"]
        assert len(table.of_trade("W1")) == 4
        assert table.counts() == {RefundProgress.PROCESSING: 2, RefundProgress.ABNORMAL: 1}
        assert table.of_trade("") == []
        assert table.get("R1") == first
        table.put(replace(first, asked=3))
        assert table.get("R1") == replace(first, asked=3)
        assert [row.out_refund_no for row in table.listed(RefundProgress.ABNORMAL, 9)] == ["R4"]
        assert table.prune(NOW + DAY) == 1  # what is abnormal waits for a person
        assert table.get("R3") is None

    await store.write(work)


async def test_a_counter_gives_no_value_twice(store: Store) -> None:
    def one(work: Transaction) -> int:
        return work.sequences.advance("msgid", 100)

    assert sorted(await asyncio.gather(*(store.write(one) for _ in range(200)))) == list(range(100, 300))
    assert await store.write(lambda work: work.sequences.advance("msgid", 5000)) == 5000
    assert await store.write(one) == 5001
    assert await store.write(lambda work: work.sequences.advance("other", 1)) == 1
    await store.write(lambda work: work.sequences.put("msgid", 7))
    assert await store.write(lambda work: work.sequences.advance("msgid", 0)) == 8


async def test_steps_belong_to_their_command(store: Store) -> None:
    """Nothing that looks for commands finds a step; a step goes when its command goes, and not before."""
    command = replace(step("", CommandState.UNKNOWN, ""), request_id="p")

    def work(work: Transaction) -> None:
        table = work.commands
        table.put(command)
        table.put(step("refund", CommandState.UNKNOWN))
        table.put(step("register", CommandState.DONE))
        assert [row.request_id for row in table.open(9)] == ["p"]
        assert [row.request_id for row in table.open_of("T1", "out_refund_no:R1")] == ["p"]
        assert [row.step for row in table.steps_of("p")] == ["refund", "register"]
        assert table.steps_of("") == []
        assert table.done_by_natural_key(command.operation, command.natural_key) is None
        assert [row.request_id for row in table.listed(CommandState.UNKNOWN, 9)] == ["p"]
        assert table.counts()[CommandState.UNKNOWN] == 1
        assert table.counts()[CommandState.DONE] == 0
        assert len(table.of_order("T1")) == 3
        assert table.has_natural_key("out_refund_no:R1")
        assert not table.has_natural_key("out_refund_no:R2")
        assert table.prune(NOW + DAY) == 0  # the command is open
        table.put(replace(command, state=CommandState.REJECTED))
        assert table.prune(NOW + DAY) == 3
        assert table.steps_of("p") == []

    await store.write(work)


async def test_a_call_back_is_one_row_and_waits_until_it_has_woken_something(store: Store) -> None:
    def fill(work: Transaction) -> None:
        table = work.payment_notices
        assert table.add("wechatpay", "TRANSACTION.SUCCESS", "W2", NOW + DAY)
        assert table.add("wechatpay", "TRANSACTION.SUCCESS", "W1", NOW)
        assert not table.add("wechatpay", "TRANSACTION.SUCCESS", "W1", NOW + DAY)
        assert table.add("wechatpay", "REFUND.SUCCESS", "W1", NOW + 2 * DAY)

    await store.write(fill)

    def look(work: Transaction) -> None:
        found = work.payment_notices.waiting(9)
        assert [(row.event, row.number, row.times) for row in found] == [
            ("TRANSACTION.SUCCESS", "W1", 2),
            ("TRANSACTION.SUCCESS", "W2", 1),
            ("REFUND.SUCCESS", "W1", 1),
        ]
        assert (found[0].received_time, found[0].last_time, found[0].woken_time) == (NOW, NOW + DAY, None)
        assert len(work.payment_notices.waiting(1)) == 1

    await store.read(look)

    def wake(work: Transaction) -> None:
        first, second, _ = work.payment_notices.waiting(9)
        for row in (first, second):
            work.payment_notices.woken(row, NOW + DAY)
        assert [row.event for row in work.payment_notices.waiting(9)] == ["REFUND.SUCCESS"]
        assert work.payment_notices.prune(NOW + DAY) == 0  # the repetition was that late
        assert work.payment_notices.prune(NOW + 9 * DAY) == 2
        assert len(work.payment_notices.waiting(9)) == 1  # never what still waits

    await store.write(wake)


async def test_commands_are_found_by_any_of_several_numbers(store: Store) -> None:
    rows = [step("a", CommandState.DONE), replace(step("b", CommandState.UNKNOWN), natural_key="out_trade_no:W1")]

    def fill(work: Transaction) -> None:
        for row in rows:
            work.commands.put(row)

    await store.write(fill)

    def look(work: Transaction) -> None:
        keys = ["out_trade_no:W1", "out_refund_no:R1", "pay_order_id:W1"]
        assert [row.request_id for row in work.commands.of_natural_keys(keys)] == ["p.a", "p.b"]
        assert work.commands.of_natural_keys(["out_trade_no:W2"]) == []

    await store.read(look)
