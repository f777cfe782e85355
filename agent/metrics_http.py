"""``/metrics`` for Prometheus and ``/healthz`` for whoever asks whether the agent is well: one snapshot behind both.

No personal data, no secrets; still, it listens on the loopback unless the configuration says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from his160.v1 import agent_pb2

from agent.figures import Figures
from agent.http_place import HttpPlace

Snapshot = Callable[[], Awaitable[agent_pb2.GetStatusResponse]]
_NAMES: Final = {
    agent_pb2.HEALTH_UNSPECIFIED: "unknown",
    agent_pb2.HEALTH_OK: "ok",
    agent_pb2.HEALTH_DEGRADED: "degraded",
    agent_pb2.HEALTH_DOWN: "down",
}


class MetricsBorder:
    """The listener; nothing at all when the configuration has none."""

    def __init__(self, place: HttpPlace | None, snapshot: Snapshot, figures: Figures) -> None:
        self._server = None
        if place is not None:
            from agent.http_server import HttpServer  # the web server costs memory that not every site need pay

            self._server = HttpServer(place, _application(snapshot, figures))

    @property
    def port(self) -> int:
        """Where it listens; 0 without a listener."""
        return 0 if self._server is None else self._server.port

    async def start(self) -> None:
        """Raises OSError when the address cannot be had."""
        if self._server is not None:
            await self._server.start()

    async def stop(self, grace: timedelta) -> None:
        if self._server is not None:
            await self._server.stop(grace)


def _application(snapshot: Snapshot, figures: Figures) -> object:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from agent.metrics import CONTENT_TYPE, exposition

    async def metrics(request: Request) -> Response:
        return Response(exposition(await snapshot(), figures.histograms()), headers={"Content-Type": CONTENT_TYPE})

    async def healthz(request: Request) -> Response:
        status = await snapshot()
        parts = {part.name: _NAMES[part.health] for part in status.components if part.health > agent_pb2.HEALTH_OK}
        body = json.dumps({"health": _NAMES[status.health], "parts": parts})
        code = 503 if status.health == agent_pb2.HEALTH_DOWN else 200
        return Response(body, code, media_type="application/json")

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz)])
