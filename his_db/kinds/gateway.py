"""kind = "gateway": protocol code for what no template can say (signatures, envelopes, sign-in). `his_db/gateway.py`.

A gateway file maps several operations at once: they share options, secrets and the state of the opened gateway. Nothing
can be rolled back, so a write counts as `commits = "procedure"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final
from zoneinfo import ZoneInfo

from google.protobuf.message import Message

from his_db import registry
from his_db.document.shape import Field
from his_db.engine import Session
from his_db.errors import HisUnavailable
from his_db.gateway import Gateway, OpenedGateway
from his_db.http_exchange import Exchanger
from his_db.kind import Call, Runner
from his_db.mapping.finding import Reporter
from his_db.mapping.model import OperationMapping

_GATEWAY: Final = "gateway"


class GatewayKind:
    """Payment houses, 医保 platforms, mobile payment centres."""

    name: ClassVar[str] = _GATEWAY
    effects: ClassVar[frozenset[str]] = frozenset({"read", "write"})

    def keys(self) -> Mapping[str, Field]:
        """None beside those of a gateway file: `his_db.mapping.grammar.gateway_file`."""
        return {}

    def check(self, mapping: OperationMapping, report: Reporter) -> None:
        """Nothing: options are checked once for the whole file, by the loader."""

    def compile(self, mapping: OperationMapping) -> Runner:
        name = mapping.values[_GATEWAY]
        zone = ZoneInfo(mapping.site.timezone)
        opened = mapping.site.gateways.get(name)
        if opened is None:
            gateway: Gateway = registry.load(registry.GATEWAYS[name])()
            opened = mapping.site.gateways[name] = gateway.open(mapping.values["options"], zone)
        return _GatewayRunner(name, opened, mapping.operation.name, zone)


class _GatewayRunner:
    """See `his_db.gateway.OfGateway`."""

    __slots__ = ("_name", "_zone", "gateway", "opened")

    def __init__(self, gateway: str, opened: OpenedGateway, name: str, zone: ZoneInfo) -> None:
        self.gateway = gateway
        self.opened = opened
        self._name = name
        self._zone = zone

    def run(self, session: Session, call: Call) -> Message:
        if not isinstance(session, Exchanger):
            raise HisUnavailable(f"{self._name}: the source is no HTTP source")
        assert call.request is not None
        return self.opened.run(session, self._name, call.request, call.now.replace(tzinfo=self._zone))
