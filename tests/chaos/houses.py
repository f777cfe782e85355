"""The payment house and 医保 of a campaign: simulators behind real HTTP, in the harness's process, so that they outlive every
agent. Their books are their own SQLite files; what the harness compares is read from there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from his_db import registry
from his_db.simulator import SimulatorMaker
from his_db.simulator_server import SimulatorServer
from sync.clock import utc_now
from tests.chaos.books import HouseBook, Money, Trade

INSTITUTION: Final = "H44030400001"
_AREA: Final = "440300"
_BALANCE: Final = 150
"""分 on every personal account, so that a part of each settlement remains to be paid in cash."""


@dataclass(slots=True)
class Houses:
    """Both simulators. ``ahead``: seconds by which their clock, like the agent's, is ahead of the machine's."""

    ahead: float = 0.0
    servers: dict[str, SimulatorServer] = field(default_factory=dict)
    mappings: list[Path] = field(default_factory=list)

    def clock(self) -> datetime:
        return utc_now() + timedelta(seconds=self.ahead)

    def start(self, name: str, folder: Path) -> None:
        """One simulator with its keys, its book and the mapping that fits it, in a folder of its own."""
        folder.mkdir()
        maker: SimulatorMaker = registry.load(registry.SIMULATORS[name])()
        maker.prepare(folder, "http://127.0.0.1:1")
        server = SimulatorServer(lambda url: maker.open(folder, folder / "book.db", url, self.clock), self.clock)
        server.start()
        self.servers[name] = server
        self.mappings.append(maker.prepare(folder, server.url))

    def stop(self) -> None:
        for server in self.servers.values():
            server.stop()

    def forget_numbers(self) -> None:
        """Each case has a store of its own, which begins to count its msgids anew: for 医保, too, it is another hospital."""
        book = self.servers["insurance"].simulator.book
        with book.change():
            book.run("DELETE FROM message")
        self.ahead = 0.0

    def pay(self, out_trade_no: str) -> None:
        """The patient pays a trade that was opened. Raises ValueError when it cannot be paid."""
        self.servers["wechat"].simulator.act("pay", {"out_trade_no": out_trade_no})

    def transaction(self, out_trade_no: str) -> str:
        """WeChat's number of a trade; empty while it is not paid."""
        row = self.servers["wechat"].simulator.book.one(
            "SELECT transaction_id FROM trade WHERE out_trade_no = ?", out_trade_no
        )
        return str(row["transaction_id"] or "") if row else ""

    def insure(self, token: str, name: str, document_no: str) -> None:
        """Somebody is insured, and his card's token is ``token``."""
        book = self.servers["insurance"].simulator.book
        person = (f"P{token}", name, document_no, token, "310", _AREA, _BALANCE, "1")
        with book.change():
            book.run("INSERT INTO person VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *person)

    def book(self, trades: tuple[str, ...], token: str) -> HouseBook:
        """What both books say of an order: its trades by number, the settlements of its patient's card."""
        return HouseBook(tuple(self._trades(trades)), tuple(self._settlements(token)))

    def _trades(self, numbers: tuple[str, ...]) -> Iterator[Trade]:
        book = self.servers["wechat"].simulator.book
        for number in numbers:
            row = book.one("SELECT * FROM trade WHERE out_trade_no = ?", number)
            if row is not None:
                back = book.all("SELECT * FROM refund WHERE out_trade_no = ?", number)
                refunds = tuple(Money(each["out_refund_no"], each["amount"]) for each in back)
                yield Trade(number, row["total"], bool(row["transaction_id"]), refunds)

    def _settlements(self, token: str) -> Iterator[str]:
        book = self.servers["insurance"].simulator.book
        for row in book.all("SELECT state FROM settlement WHERE psn_no = ?", f"P{token}"):
            yield str(row["state"])


@contextmanager
def open_houses(folder: Path) -> Iterator[Houses]:
    """Both simulators, running until the block ends."""
    houses = Houses()
    try:
        for name in ("wechat", "insurance"):
            houses.start(name, folder / name)
        yield houses
    finally:
        houses.stop()
