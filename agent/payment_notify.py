"""Where payment houses and 医保 call back: ``POST /notify/wechatpay``. Kept on disk, then answered, then asked for.

The listener is off by default, and nothing depends on it: without it the sweep asks for the same things a little later.
Everyone can reach it where the payment house can, so it takes small bodies only, says nothing of why it refuses, and
believes nothing that its gateway has not verified.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from agent.figures import Figures
from agent.http_place import HttpPlace
from his_db.errors import HisError
from his_db.gateway import NoticeReader, NoticeRefused, OpenedGateway
from sync.clock import Clock
from sync.payment_notices import PaymentNotices
from sync.store import StoreError

_LOG: Final = logging.getLogger(__name__)
_MOST_BYTES: Final = 64 * 1024
_PATIENCE: Final = 4.0  # seconds; WeChat Pay waits for 5
_PAUSE: Final = 5.0

Opened = Callable[[str], OpenedGateway | None]
"""The gateway of a name, as the mappings have it now."""


class PaymentNotify:
    """The listener; nothing at all when the configuration has none."""

    def __init__(
        self, place: HttpPlace | None, gateway: Opened, notices: PaymentNotices, clock: Clock, figures: Figures
    ) -> None:
        self._gateway = gateway
        self._notices = notices
        self._clock = clock
        self._figures = figures
        self._called = asyncio.Event()
        self._has_ended = False
        self._server = None
        self._place = place
        if place is not None:
            from agent.http_server import HttpServer  # the web server costs memory that not every site need pay

            self._server = HttpServer(place, self._application())

    @property
    def port(self) -> int:
        """Where it listens; 0 without a listener."""
        return 0 if self._server is None else self._server.port

    @property
    def is_on(self) -> bool:
        return self._server is not None

    async def start(self) -> None:
        """Raises OSError when the address cannot be had."""
        if self._server is None or self._place is None:
            return
        await self._server.start()
        plain = "" if self._place.certificate is not None else " WITHOUT TLS"
        _LOG.info("payment houses call back on port %d%s", self._server.port, plain)

    async def stop(self, grace: timedelta) -> None:
        """Take no more; ``run`` ends after what it is asking for."""
        if self._server is not None:
            await self._server.stop(grace)
        self._has_ended = True
        self._called.set()

    async def run(self) -> None:
        """Asks for what was called back, also before this process began. Until ``stop``."""
        while not self._has_ended:
            self._called.clear()
            wait = None
            try:
                await self._notices.wake()
            except StoreError as error:
                _LOG.warning("what was called back waits for the state store: %s", error)
                wait = _PAUSE
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._called.wait()

    async def take(self, name: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. It is accepted only when it is on disk."""
        opened = self._gateway(name)
        if not isinstance(opened, NoticeReader):
            return 404, b""
        try:
            async with asyncio.timeout(_PATIENCE):
                # In a thread: SM2 takes a while, and keys may have to be read.
                notice = await asyncio.to_thread(opened.notice, headers, body, self._clock())
                await self._notices.keep(name, notice.event, notice.number)
        except NoticeRefused as error:
            self._figures.add("payment_notices_refused")
            _LOG.warning("a call-back to %s is refused: %s", name, error)
            return opened.answer(accepted=False)
        except (HisError, StoreError, TimeoutError) as error:
            _LOG.error("a call-back to %s cannot be kept now: %s", name, error or type(error).__name__)
            return 503, opened.answer(accepted=False)[1]
        self._figures.add("payment_notices")
        self._called.set()
        return opened.answer(accepted=True)

    def _application(self) -> Any:
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import Response
        from starlette.routing import Route

        async def notify(request: Request) -> Response:
            body = bytearray()
            async for part in request.stream():
                body += part
                if len(body) > _MOST_BYTES:
                    return Response(status_code=413)
            headers = {name.lower(): value for name, value in request.headers.items()}
            status, answer = await self.take(request.path_params["gateway"], headers, bytes(body))
            return Response(answer, status, media_type="application/json")

        return Starlette(routes=[Route("/notify/{gateway}", notify, methods=["POST"])])
