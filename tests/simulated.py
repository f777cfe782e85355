"""A gateway's mapping, a lane and a running simulator, put together: what the gateway tests and others start from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from google.protobuf.message import Message

from his_db import contract, registry
from his_db.access import HisAccess
from his_db.engine import SourceSettings
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.simulator import Fault, FaultKind, SimulatorMaker
from his_db.simulator_server import SimulatorServer
from his_db.source import LaneSettings, Source

ZONE = ZoneInfo("Asia/Shanghai")
M = TypeVar("M", bound=Message)


class StillClock:
    """Answers one instant until it is moved."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


class Bench:
    """One simulator and the mapping that fits it; `ask` runs an operation through the lane of its source.

    `keys`: a folder with keys made before (making RSA keys takes time). `mapping`: the text of another mapping file.
    """

    def __init__(
        self,
        simulator: str,
        source: str,
        folder: Path,
        keys: Path,
        clock: StillClock,
        *,
        patience: timedelta = timedelta(seconds=5),
        mapping: str = "",
    ) -> None:
        maker: SimulatorMaker = registry.load(registry.SIMULATORS[simulator])()
        self.clock = clock
        self.book = folder / "book.db"
        maker.prepare(keys, "http://127.0.0.1:1")
        self.server = SimulatorServer(lambda url: maker.open(keys, self.book, url, clock), clock)
        self.server.start()
        made = maker.prepare(keys, self.server.url).read_text(encoding="utf-8")
        mappings = folder / "mappings"
        mappings.mkdir()
        (mappings / "gateway.toml").write_text(mapping or made, encoding="utf-8")
        self.set = load_mapping_set(mappings, sources={source: "http"}, timezone="Asia/Shanghai")
        self.generation = compile_generation(self.set)
        settings = SourceSettings(source, "http", self.server.url, statement_timeout=patience)
        one = LaneSettings(workers=1, queue_limit=20)
        self.source = Source(settings, {"read": one, "write": one})
        self.access = HisAccess({source: self.source}, self.generation, clock=clock)

    async def ask(self, operation: str, answer: type[M], **fields: Any) -> M:
        """One call. Raises the errors of `his_db.errors`."""
        about = contract.operation(operation)
        request = about.request_class(**fields)
        if about.is_read:
            found = await self.access.read(operation, request)
        else:
            found = await self.access.write(operation, request, key="0" * 32)
        assert isinstance(found, answer)
        return found

    def fault(self, kind: FaultKind, match: str = "", **more: Any) -> None:
        """One more fault of the script."""
        self.server.add_faults([Fault(kind, match, **more)])

    def act(self, name: str, /, **values: Any) -> Any:
        """What people do at the simulated service."""
        return self.server.simulator.act(name, values)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """A table of its book."""
        return self.server.simulator.book.dump()[table]

    def asked(self, label: str) -> list[Mapping[str, Any]]:
        """The requests with a label, in their order."""
        return [entry for entry in self.server.requests if entry["label"] == label]

    async def close(self) -> None:
        """End everything."""
        self.server.clear_faults()
        await self.source.close(timedelta(seconds=1))
        self.server.stop()
