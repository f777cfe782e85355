"""What ``config.toml`` may hold: every setting with its default. ``config.toml`` at the root is the reference of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from his_db.document.shape import MISSING, Boolean, Duration, Field, FilePath, Integer, ListOf, MapOf, TableOf, Text
from his_db.registry import ENGINES
from his_db.source import DEFAULT_LANES, LaneSettings

_SECOND: Final = timedelta(seconds=1)
_OPTIONAL_PATH: Final = Text()
_CODE: Final = Text(
    pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
    pattern_hint="1 to 63 letters, digits, . _ -",
    pattern_hint_zh="1 至 63 位字母、数字或 . _ -",
)
_TIMEOUT: Final = Duration(minimum=timedelta(milliseconds=100), maximum=timedelta(minutes=10))


def _lane(usual: LaneSettings) -> TableOf:
    """The sizes of one lane; what is left out is as usual for it."""
    timeout = MISSING if usual.statement_timeout is None else usual.statement_timeout
    return TableOf(
        {
            "workers": Field(Integer(minimum=1, maximum=64), default=usual.workers),
            "queue_limit": Field(Integer(minimum=1, maximum=10000), default=usual.queue_limit),
            "statement_timeout": Field(_TIMEOUT, default=timeout),
        }
    )


_SOURCE: Final = TableOf(
    {
        "engine": Field(Text(choices=tuple(sorted(ENGINES))), required=True),
        "database": Field(Text(min_length=1), required=True),
        "host": Field(Text(), default=""),
        "port": Field(Integer(minimum=0, maximum=65535), default=0),
        "user": Field(Text(), default=""),
        "password": Field(Text(), default="", secret=True),
        "schema": Field(Text(), default=""),
        "connect_timeout": Field(_TIMEOUT, default=5 * _SECOND),
        "statement_timeout": Field(_TIMEOUT, default=10 * _SECOND),
        "lock_timeout": Field(_TIMEOUT, default=3 * _SECOND),
        "options": Field(MapOf(Text()), default={}),
        "slow_after": Field(_TIMEOUT, default=3 * _SECOND),
        "slow_percent": Field(Integer(minimum=0, maximum=100), default=60),
        "quiet_hours": Field(Text(), default=""),
        "lanes": Field(TableOf({name: Field(_lane(usual)) for name, usual in DEFAULT_LANES.items()}), default={}),
    }
)

SHAPE: Final = TableOf(
    {
        "site": Field(
            TableOf(
                {
                    "code": Field(_CODE, required=True),
                    "name": Field(Text(), default=""),
                    "timezone": Field(Text(min_length=1), default="Asia/Shanghai"),
                    "instance": Field(Text(), default=""),
                }
            ),
            required=True,
        ),
        "state": Field(
            TableOf(
                {
                    "path": Field(FilePath(), default="state/his160.db"),
                    "keep": Field(Duration(minimum=timedelta(days=1)), default=timedelta(days=30)),
                    "sweep": Field(Duration(minimum=_SECOND, maximum=timedelta(hours=1)), default=10 * _SECOND),
                }
            ),
            default={},
        ),
        "source": Field(MapOf(_SOURCE, key_pattern=r"[a-z][a-z0-9]*(_[a-z0-9]+)*"), required=True),
        "mapping": Field(
            TableOf(
                {
                    "path": Field(FilePath(), required=True),
                    "watch": Field(Text(choices=("auto", "events", "polling", "off")), default="auto"),
                    "quiet": Field(Duration(minimum=_SECOND / 100, maximum=60 * _SECOND), default=_SECOND / 2),
                    "canary": Field(ListOf(Text(min_length=1)), default=["CatalogService.ListDepartments"]),
                    "start_with_last_good": Field(Boolean(), default=True),
                    "use": Field(Text(choices=("folder", "published")), default="folder"),
                    "approval": Field(Boolean(), default=False),
                    "drift": Field(Duration(maximum=timedelta(days=1)), default=timedelta(minutes=10)),
                }
            ),
            required=True,
        ),
        "operations": Field(TableOf({"off": Field(ListOf(Text(min_length=1)), default=[])}), default={}),
        "server": Field(
            TableOf(
                {
                    "enabled": Field(Boolean(), default=False),
                    "listen": Field(Text(), default="127.0.0.1:50160"),
                    "certificate": Field(_OPTIONAL_PATH, default=""),
                    "key": Field(_OPTIONAL_PATH, default=""),
                    "client_ca": Field(_OPTIONAL_PATH, default=""),
                    "insecure": Field(Boolean(), default=False),
                }
            ),
            default={},
        ),
        "relay": Field(
            TableOf(
                {
                    "enabled": Field(Boolean(), default=False),
                    "addresses": Field(ListOf(Text(min_length=1), max_items=8), default=[]),
                    "certificate": Field(_OPTIONAL_PATH, default=""),
                    "key": Field(_OPTIONAL_PATH, default=""),
                    "ca": Field(_OPTIONAL_PATH, default=""),
                    "authority": Field(Text(), default=""),
                    "http_proxy": Field(Text(), default=""),
                    "redial_first": Field(Duration(minimum=timedelta(milliseconds=10)), default=_SECOND / 10),
                    "redial_most": Field(Duration(minimum=_SECOND), default=30 * _SECOND),
                    "dead_after": Field(Duration(minimum=_SECOND, maximum=timedelta(minutes=5)), default=15 * _SECOND),
                    "calls": Field(Integer(minimum=1, maximum=1000), default=64),
                }
            ),
            default={},
        ),
        "watch": Field(
            TableOf(
                {
                    "enabled": Field(Boolean(), default=True),
                    "poll": Field(Duration(minimum=_SECOND / 20, maximum=timedelta(hours=1)), default=_SECOND / 2),
                }
            ),
            default={},
        ),
        "delivery": Field(
            TableOf(
                {
                    "sink": Field(Text(choices=("relay", "file", "pull")), default="relay"),
                    "folder": Field(FilePath(), default="events"),
                }
            ),
            default={},
        ),
        "limits": Field(
            TableOf(
                {
                    "calls": Field(Integer(minimum=1, maximum=10000), default=256),
                    "time": Field(Duration(minimum=_SECOND, maximum=timedelta(minutes=10)), default=30 * _SECOND),
                    "grace": Field(Duration(maximum=timedelta(minutes=5)), default=10 * _SECOND),
                }
            ),
            default={},
        ),
        "log": Field(
            TableOf(
                {
                    "level": Field(Text(choices=("debug", "info", "warning", "error")), default="info"),
                    "format": Field(Text(choices=("text", "json")), default="text"),
                    "file": Field(_OPTIONAL_PATH, default=""),
                    "max_megabytes": Field(Integer(minimum=1, maximum=1024), default=20),
                    "backups": Field(Integer(minimum=1, maximum=100), default=10),
                }
            ),
            default={},
        ),
    }
)
