"""Hours of the day in which bulk reads leave the HIS alone: the morning rush, the nightly batch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from his_db.errors import SwitchedOff

_DAY: Final = timedelta(days=1)
_SPAN: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s*-\s*(?:([01]\d|2[0-3]):([0-5]\d)|(24:00))")
_NOTE: Final = "当前时段不执行批量查询"


@dataclass(frozen=True, slots=True)
class Span:
    """From ``start`` up to ``end``, hospital wall clock; over midnight when ``end`` is the earlier. Never empty."""

    start: time
    end: time

    def left(self, now: time) -> timedelta:
        """How long the span still lasts at ``now``; zero outside."""
        start, end, at = _since_midnight(self.start), _since_midnight(self.end), _since_midnight(now)
        length = (end - start) % _DAY
        passed = (at - start) % _DAY
        return length - passed if passed < length else timedelta(0)


def parse_spans(text: str) -> tuple[Span, ...]:
    """``"08:00-09:00, 22:30-01:00"`` -> spans; nothing for an empty text. Raises ValueError."""
    spans = []
    for part in text.split(","):
        if not part.strip() and len(text.strip()) == 0:
            continue
        match = _SPAN.fullmatch(part.strip())
        if match is None:
            raise ValueError("not HH:MM-HH:MM")
        end = time(0, 0) if match[5] else time(int(match[3]), int(match[4]))
        span = Span(time(int(match[1]), int(match[2])), end)
        if span.start == span.end:
            raise ValueError("an empty span of time")
        spans.append(span)
    return tuple(spans)


class QuietHours:
    """The gate of a lane. ``clock`` gives aware datetimes."""

    def __init__(
        self,
        spans: tuple[Span, ...],
        timezone: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._spans = spans
        self._zone = ZoneInfo(timezone)
        self._clock = clock
        self.refused = 0

    def enter(self) -> None:
        """Raises SwitchedOff with the time to the end of the quiet hours."""
        if not self._spans:
            return
        now = self._clock().astimezone(self._zone).time()
        left = max(span.left(now) for span in self._spans)
        if left > timedelta(0):
            self.refused += 1
            raise SwitchedOff("quiet hours: no bulk reads now", note=_NOTE, retry_after=left)


def _since_midnight(at: time) -> timedelta:
    return timedelta(hours=at.hour, minutes=at.minute, seconds=at.second, microseconds=at.microsecond)
