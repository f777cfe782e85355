"""One history on a real hospital: what patients, windows, time and faults do, and the books that are read at its end."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

from agent.errors import explain, to_status
from his_db.errors import HisError
from his_db.sample import WindowRefusal
from his_db.simulator import Fault, FaultKind
from sync.audit import Audit
from sync.command import CommandExecutor
from sync.saga_context import SagaRules
from sync.store import CommandRow, CommandState, StoreError, Transaction
from sync.stores.sqlite import SqliteStore
from tests.chaos.books import Books, HisSession, HouseBook, Said
from tests.chaos.house_scenes import HOUSE_REQUESTS
from tests.chaos.houses import INSTITUTION
from tests.chaos.invariants import CANCEL, LOCK, PAY, REFUND, REVERSE, UNLOCK, Finding, judge
from tests.chaos.process import Answer
from tests.chaos.real_hospital import RealHospital
from tests.chaos.scenes import Customer

PATIENTS: Final = ("a", "b", "c")
COMMANDS: Final = (
    "lock",
    "unlock",
    "book",
    "cancel",
    "open",
    "open_cash",
    "confirm",
    "refund",
    "quote",
    "settle",
    "reverse",
)
_BOOKED: Final = ("lock", "book")
BEGINNINGS: Final[dict[str, tuple[str, ...]]] = {
    "nothing": (),
    "held": ("lock",),
    "booked": _BOOKED,
    "paid": (*_BOOKED, "open", "@pay"),
    "registered": (*_BOOKED, "open", "@pay", "confirm"),
    "quoted": (*_BOOKED, "quote"),
    "cash paid": (*_BOOKED, "quote", "open_cash", "@pay"),
    "insured": (*_BOOKED, "quote", "open_cash", "@pay", "settle"),
}
"""How far a patient has come before anything happens, undisturbed: a history of single steps seldom comes far."""

FAULTS: Final = (
    *("commit lost", "commit unheard", "dies before", "dies after"),
    *(
        f"{house} {kind.value}"
        for house in ("wechat", "insurance")
        for kind in (FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER)
    ),
    *(f"{house} {FaultKind.GARBAGE_AFTER.value}" for house in ("wechat", "insurance")),
)
HAPPENINGS: Final = (
    *(
        f"{what} {who}"
        for what in ("pays", "window cancels", "comes", "stops", "goes on", "hold ends")
        for who in PATIENTS
    ),
    *("restart", "sweep", "later", "much later"),
)
_NEEDS: Final = {"confirm": "transaction", "open_cash": "split", "settle": "split", "reverse": "setl_id"}
_CASHIER: Final = "0931"
_SETTLE: Final = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Round:
    """Commands asked for at once, the faults that they meet in turn, and what happens after them."""

    commands: tuple[str, ...]
    faults: tuple[str, ...] = ()
    happenings: tuple[str, ...] = ()


class RealPlay:
    """One example. ``play`` it once."""

    def __init__(self, hospital: RealHospital, folder: Path) -> None:
        self._hospital = hospital
        prefix, places = hospital.next_example()
        self.who = {
            name: Customer(f"{prefix}{name.upper()}", place, HOUSE_REQUESTS)
            for name, place in zip(PATIENTS, places, strict=True)
        }
        hospital.houses.ahead = 0.0
        self._before = self._sessions()
        self._store = SqliteStore(folder / "state.db", hospital.houses.clock, exclusive=False)
        self._his = hospital.his()
        self._asked: dict[str, tuple[str, Message]] = {}
        self._told: list[Said] = []
        self._died = False
        self._cancelled: set[str] = set()
        self._start()

    async def play(self, beginnings: tuple[str, ...], rounds: list[Round]) -> list[Finding]:
        """Everything, then peace; what must not be."""
        try:
            for name, beginning in zip(PATIENTS, beginnings, strict=True):
                self._insure(name)
                for step in BEGINNINGS[beginning]:
                    await self._begin(name, step)
            for each in rounds:
                await self._round(each)
            await self._settled()
            return await self._judged()
        finally:
            await self._store.close()
            self._clean()

    @property
    def told(self) -> list[Said]:
        """What the callers were told, in order."""
        return self._told

    def his_state(self, name: str) -> str:
        """State of a patient's order in the HIS's tables; empty when there is none."""
        orders = self._hospital.reader.read([self.who[name].order_no]).orders
        return orders[-1].state if orders else ""

    def _start(self) -> None:
        self._run = CommandExecutor(
            self._his,
            self._store,
            clock=self._hospital.houses.clock,
            settle=_SETTLE,
            rules=SagaRules(site="440305160", institution=INSTITUTION),
        )

    async def _restarted(self) -> None:
        self._died = False
        self._start()
        await self._run.recover()

    async def _begin(self, name: str, step: str) -> None:
        if step == "@pay":
            with suppress(ValueError):  # the number was another patient's, so there is no trade
                self._pay(name)
        else:
            await self._ask(f"{step} {name}")

    async def _round(self, each: Round) -> None:
        self._arm(each.faults)
        await asyncio.gather(*(self._ask(name) for name in each.commands))
        self._disarm()
        if self._died:
            await self._restarted()
        for what in each.happenings:
            await self._happens(what)

    def _arm(self, faults: tuple[str, ...]) -> None:
        for fault in faults:
            where, _, how = fault.partition(" ")
            if where == "commit":
                self._hospital.cut.cuts.append(how)
            elif where == "dies":
                self._his.deaths.append(how)
            else:
                self._hospital.houses.servers[where].add_faults([Fault(FaultKind(how))])

    def _disarm(self) -> None:
        self._hospital.cut.cuts.clear()
        self._his.deaths.clear()
        for server in self._hospital.houses.servers.values():
            server.clear_faults()

    async def _ask(self, name: str) -> None:
        step, _, patient = name.partition(" ")
        who = self.who[patient]
        if name not in self._asked:
            if _NEEDS.get(step, "") not in ("", *who.notes):
                return
            self._asked[name] = who.request(step)
        operation, request = self._asked[name]
        request_id = str(getattr(request, "request_id", ""))
        answer: Answer | None = None
        try:
            response = await self._run.execute(operation, request)
        except asyncio.CancelledError:
            self._died = True
        except (HisError, StoreError) as error:
            row = await self._run.ledger.get(request_id)
            if row is not None and row.state is CommandState.RETRYABLE:
                return  # not now (NOT_PAID, not understood): it says nothing about the next time
            said = explain(to_status(error))
            answer = Answer(operation, request_id, b"", said.code, said.reason, said.retry_after)
        else:
            answer = Answer(operation, request_id, response.SerializeToString(deterministic=True))
            who.remember(step, response)
        self._told.append(Said(operation, request_id, who.order_no, who.number(step), answer))

    async def _happens(self, what: str) -> None:
        what, _, name = what.rpartition(" ") if what.rpartition(" ")[2] in PATIENTS else (what, "", "")
        match what:
            case "pays":
                with suppress(ValueError):
                    self._pay(name)
            case "window cancels" | "comes" | "stops" | "goes on":
                with suppress(WindowRefusal):
                    self._at_window(what, name)
            case "hold ends":
                self._hospital.end_hold(self.who[name].order_no)
            case "restart":
                await self._restarted()
            case "sweep":
                await self._run.sweep()
            case "later":
                self._hospital.move(30)
            case "much later":
                self._hospital.move(40 * 60)

    def _at_window(self, what: str, name: str) -> None:
        window, who = self._hospital.window, self.who[name]
        if what == "stops":
            window.suspend_schedule(who.place.schedule_id, operator=_CASHIER, reason="医生临时有事")
        elif what == "goes on":
            window.resume_schedule(who.place.schedule_id, operator=_CASHIER)
        else:
            for order in self._hospital.reader.read([who.order_no]).orders:
                if what == "comes":
                    window.check_in(order.his_id)
                else:
                    window.cancel_booking(order.his_id, operator=_CASHIER)
                    self._cancelled.add(who.order_no)

    def _insure(self, name: str) -> None:
        who = self.who[name]
        self._hospital.houses.insure(who.order_no, *self._hospital.reader.person(who.place.patient_id))

    def _pay(self, name: str) -> None:
        houses, who = self._hospital.houses, self.who[name]
        houses.pay(who.out_trade_no)
        who.notes["transaction"] = houses.transaction(who.out_trade_no)

    async def _settled(self) -> None:
        """The faults are over, callers ask again for what they asked, time passes: sagas wait for callers and for banks."""
        await self._restarted()
        for _ in range(4):
            self._hospital.move(180)
            await self._run.sweep()
            for name in sorted(self._asked):
                await self._ask(name)
        self._hospital.move(2 * 3600)
        await self._run.sweep()
        await self._run.sweep()

    async def _judged(self) -> list[Finding]:
        def unit(transaction: Transaction) -> list[CommandRow]:
            return [row for state in CommandState for row in transaction.commands.listed(state, 10_000)]

        rows = await self._store.read(unit)
        waiting = [row for row in rows if row.state.is_open and not row.detail.startswith("a person must look")]
        assert not waiting, f"came to no end: {[(row.operation, row.state.value, row.detail) for row in waiting]}"
        numbers = [who.order_no for who in self.who.values()]
        his = replace(self._hospital.reader.read(numbers), sessions=self._sessions())
        moot = self._moot(rows, {order.order_no for order in his.orders if order.insured})
        told = [said for said in self._told if (said.operation, said.order_no) not in moot]
        kept = [row for row in rows if (row.operation, row.order_key) not in moot]
        broken = (await Audit(self._store, self._hospital.houses.clock).verify()).broken
        return judge(Books(his, kept, told, self._before, str(broken or ""), self._houses()))

    def _moot(self, rows: list[CommandRow], insured: set[str]) -> set[tuple[str, str]]:
        """Commands of orders that the HIS's tables cannot bear out, because somebody else did the same later: holds run
        out; a payment stands under its number as the cash part of a settlement; a refund undid the settlement; the
        window cancelled."""
        refunded = {row.order_key for row in rows if row.operation == REFUND and row.state is CommandState.DONE}
        return {
            *((operation, who.order_no) for who in self.who.values() for operation in (LOCK, UNLOCK)),
            *((PAY, order_no) for order_no in insured),
            *((REVERSE, order_no) for order_no in refunded),
            *((CANCEL, order_no) for order_no in self._cancelled),
        }

    def _houses(self) -> dict[str, HouseBook]:
        houses = self._hospital.houses
        return {who.order_no: houses.book((who.out_trade_no,), who.order_no) for who in self.who.values()}

    def _sessions(self) -> dict[str, HisSession]:
        """The sessions of this example alone: the others are nobody's now."""
        found: dict[str, HisSession] = {}
        for schedule_id in {who.place.schedule_id for who in self.who.values()}:
            found |= self._hospital.reader.read([], session=schedule_id).sessions
        return found

    def _clean(self) -> None:
        """Sessions that were stopped go on: the next example may be in them."""
        self._disarm()
        for who in self.who.values():
            with suppress(WindowRefusal):
                self._hospital.window.resume_schedule(who.place.schedule_id, operator=_CASHIER)


def played(hospital: RealHospital, beginnings: tuple[str, ...], rounds: list[Round]) -> tuple[RealPlay, list[Finding]]:
    """One example, with a store of its own; where there is memory for it, in memory."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))

    async def run() -> tuple[RealPlay, list[Finding]]:
        scene = RealPlay(hospital, folder)
        return scene, await scene.play(beginnings, rounds)

    try:
        return asyncio.run(run())
    finally:
        shutil.rmtree(folder)
