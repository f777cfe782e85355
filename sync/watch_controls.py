"""Telling a watch to pause, to go on, to begin anew: each is one transaction with its line in the audit."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime

from sync.audit import Audit, as_json
from sync.store import Store, Transaction
from sync.watch_control import WatchControl


class WatchControls:
    """In a store, beside a running agent or not. Methods raise StoreError."""

    def __init__(self, store: Store, audit: Audit) -> None:
        self._store = store
        self._audit = audit

    async def is_known(self, stream: str) -> bool:
        """Whether a watch of that name has ever been read, or was spoken of."""

        def unit(work: Transaction) -> bool:
            return work.rows.stream(stream) is not None or work.watch_controls.get(stream) is not None

        return await self._store.read(unit)

    async def get(self, stream: str) -> WatchControl:
        return await self._store.read(lambda work: work.watch_controls.get(stream)) or WatchControl(stream)

    async def pause(self, stream: str, *, by: str, note: str, now: datetime) -> bool:
        """False when it is paused already; then nothing is changed."""
        return await self._turn(stream, is_paused=True, by=by, note=note, now=now)

    async def resume(self, stream: str, *, by: str, now: datetime) -> bool:
        """False when it is not paused; then nothing is changed."""
        return await self._turn(stream, is_paused=False, by=by, note="", now=now)

    async def reseed(self, stream: str, *, note: str, now: datetime) -> str:
        """Asks for a reseed; its number, which stands in ``reseeded`` once it is done."""
        number = secrets.token_hex(8)
        entry = self._audit.entry("watch.reseed", target=stream, result="asked", parameters=as_json(note=note))

        def unit(work: Transaction) -> None:
            control = work.watch_controls.get(stream) or WatchControl(stream)
            work.watch_controls.put(replace(control, reseed=number))
            work.audit.append(entry, now)

        await self._store.write(unit)
        return number

    async def _turn(self, stream: str, *, is_paused: bool, by: str, note: str, now: datetime) -> bool:
        action = "watch.pause" if is_paused else "watch.resume"
        entry = self._audit.entry(action, target=stream, result="done", parameters=as_json(note=note))
        since = now.astimezone().isoformat(timespec="seconds")

        def unit(work: Transaction) -> bool:
            control = work.watch_controls.get(stream) or WatchControl(stream)
            if control.is_paused is is_paused:
                return False
            work.watch_controls.put(replace(control, is_paused=is_paused, note=note, by=by, since=since))
            work.audit.append(entry, now)
            return True

        return await self._store.write(unit)


def reseed_done(work: Transaction, stream: str, number: str, result: str) -> None:
    """As part of a unit: the reseed of that number is done. One that was asked for meanwhile stays asked for."""
    control = work.watch_controls.get(stream) or WatchControl(stream)
    work.watch_controls.put(replace(control, reseeded=number, result=result))
