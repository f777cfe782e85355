"""The desk of one agent: where notices of windows come in, what becomes of them, and how it stands."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from his160.v1 import agent_pb2

from agent.config import DeskSettings
from agent.desk_keys import DeskKeys
from agent.jobs import Job
from agent.registry import HandlerRegistry
from agent.status import ComponentState
from sync.desk import Desk

_LOG: Final = logging.getLogger(__name__)
_LOOK: Final = timedelta(seconds=30)


class DeskBorder:
    """The HTTP listener, when there is one, and the watch over notices that the HIS does not show."""

    def __init__(self, settings: DeskSettings, registry: HandlerRegistry, desk: Desk) -> None:
        """Raises DeskKeyError for a file of keys that cannot be used."""
        self._settings = settings
        self._desk = desk
        self._overdue = 0
        self._server = None
        if settings.place is not None:
            from agent.desk_http import desk_application  # the web server costs memory that most sites need not pay
            from agent.http_server import HttpServer

            keys = None if settings.keys is None else DeskKeys(settings.keys)
            application = desk_application(registry, keys, patience=settings.patience)
            self._server = HttpServer(settings.place, application)

    @property
    def port(self) -> int:
        """Where it listens; 0 without a listener."""
        return 0 if self._server is None else self._server.port

    async def start(self) -> None:
        """Raises OSError when the address cannot be had."""
        if self._server is None or self._settings.place is None:
            return
        await self._server.start()
        plain = "" if self._settings.place.certificate is not None else " WITHOUT TLS"
        _LOG.info("the desk listens on port %d%s", self._server.port, plain)

    async def stop(self, grace: timedelta) -> None:
        if self._server is not None:
            await self._server.stop(grace)

    def jobs(self) -> list[Job]:
        return [Job("desk", _LOOK, self.look)]

    async def look(self) -> None:
        """Counts what windows have told and the HIS does not show. Raises StoreError."""
        overdue = len(await self._desk.overdue(self._settings.overdue))
        if overdue > self._overdue:
            _LOG.warning("notices of windows that the HIS does not show: %d", overdue)
        self._overdue = overdue

    def state(self) -> Iterable[ComponentState]:
        """``desk``: DEGRADED while a person must look (``his160 desk list``)."""
        if self._overdue:
            detail = f"{self._overdue} notices of windows are not shown by the HIS"
            yield ComponentState("desk", agent_pb2.HEALTH_DEGRADED, detail)
        elif self._server is not None:
            yield ComponentState("desk", agent_pb2.HEALTH_OK, "")
