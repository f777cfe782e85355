"""PostgreSQL: LISTEN on channels that the DBA's triggers notify. A notification comes with its commit, never before."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from his_db.document.finding import Words

if TYPE_CHECKING:  # checking a mapping must not load a driver
    from his_db.engines.postgresql import PostgresqlEngine, PostgresqlSession

# Lower case, so that NOTIFY name (which folds) and pg_notify('name') (which does not) are the same channel.
_CHANNEL: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class Notifications:
    """See ``his_db.wake.Wake``. A signal is the name of a channel."""

    def problem(self, signal: str) -> Words | None:
        """See the port."""
        if _CHANNEL.fullmatch(signal):
            return None
        return Words(
            "a channel is a name of small letters, digits and _, at most 63",
            "通道名只能用小写字母、数字和 _，最长 63 位",
        )

    def open(self, engine: PostgresqlEngine, signals: Collection[str]) -> PostgresqlSession:
        """See the port. A pooler that shares server sessions swallows LISTEN: name the server itself as the source."""
        session = engine.open(read_only=True)
        try:
            session.listen(signals)
        except BaseException:
            session.close()
            raise
        return session
