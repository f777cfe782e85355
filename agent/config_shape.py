"""What ``config.toml`` may hold: every setting with its default. ``config.toml`` at the root is the reference of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from his_db.document.shape import Boolean, Duration, Field, FilePath, Integer, ListOf, MapOf, TableOf, Text
from his_db.registry import ENGINES
from his_db.source import DEFAULT_LANES
from sync.audit import ARCHIVE_KEEP, SHORTEST_ARCHIVE
from sync.drop_settings import FORMATS
from sync.registry import REPORT_FORMATS

_SECOND: Final = timedelta(seconds=1)
_OPTIONAL_PATH: Final = Text()
_CODE: Final = Text(
    pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
    pattern_hint="1 to 63 letters, digits, . _ -",
    pattern_hint_zh="1 至 63 位字母、数字或 . _ -",
)
_TIMEOUT: Final = Duration(minimum=timedelta(milliseconds=100), maximum=timedelta(minutes=10))


# What is left out of a lane is as usual for it, and that the engine decides (``his_db.source.default_lanes``).
_LANE: Final = TableOf(
    {
        "workers": Field(Integer(minimum=1, maximum=64)),
        "queue_limit": Field(Integer(minimum=1, maximum=10000)),
        "statement_timeout": Field(_TIMEOUT),
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
        "lanes": Field(TableOf({name: Field(_LANE) for name in DEFAULT_LANES}), default={}),
    }
)

_DROP: Final = TableOf(
    {
        "folder": Field(FilePath(), required=True),
        "format": Field(Text(choices=("auto", *FORMATS)), default="auto"),
        "encoding": Field(Text(choices=("auto", "utf-8", "gbk", "utf-16")), default="auto"),
        "delimiter": Field(Text(choices=(",", ";", "\t", "|")), default=","),
        "row": Field(Text(), default=""),
        "quiet": Field(Duration(minimum=_SECOND / 10, maximum=timedelta(hours=1)), default=2 * _SECOND),
        "patience": Field(Duration(minimum=_SECOND, maximum=timedelta(days=1)), default=timedelta(minutes=10)),
        "max_megabytes": Field(Integer(minimum=1, maximum=4096), default=256),
        "max_rows": Field(Integer(minimum=1, maximum=100_000_000), default=1_000_000),
        "keep": Field(Duration(minimum=timedelta(0), maximum=timedelta(days=3660)), default=timedelta(days=7)),
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
                    "url": Field(Text(), default=""),
                    "password": Field(Text(), default="", secret=True),
                    "lease": Field(Duration(minimum=_SECOND, maximum=60 * _SECOND), default=12 * _SECOND),
                    "keep": Field(Duration(minimum=timedelta(days=1)), default=timedelta(days=30)),
                    "sweep": Field(Duration(minimum=_SECOND, maximum=timedelta(hours=1)), default=10 * _SECOND),
                    "audit_keep": Field(Duration(minimum=timedelta(days=180)), default=timedelta(days=400)),
                    "archive_keep": Field(Duration(minimum=SHORTEST_ARCHIVE), default=ARCHIVE_KEEP),
                }
            ),
            default={},
        ),
        "source": Field(MapOf(_SOURCE, key_pattern=r"[a-z][a-z0-9]*(_[a-z0-9]+)*"), required=True),
        "drop": Field(MapOf(_DROP, key_pattern=r"[a-z][a-z0-9]*(_[a-z0-9]+)*"), default={}),
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
        "desk": Field(
            TableOf(
                {
                    "enabled": Field(Boolean(), default=False),
                    "listen": Field(Text(), default="127.0.0.1:50161"),
                    "keys": Field(_OPTIONAL_PATH, default=""),
                    "certificate": Field(_OPTIONAL_PATH, default=""),
                    "key": Field(_OPTIONAL_PATH, default=""),
                    "client_ca": Field(_OPTIONAL_PATH, default=""),
                    "insecure": Field(Boolean(), default=False),
                    "patience": Field(Duration(minimum=_SECOND / 2, maximum=timedelta(minutes=1)), default=3 * _SECOND),
                    "trust": Field(Text(choices=("his", "word")), default="his"),
                    "overdue": Field(Duration(minimum=_SECOND), default=timedelta(minutes=10)),
                }
            ),
            default={},
        ),
        "metrics": Field(
            TableOf(
                {
                    "enabled": Field(Boolean(), default=False),
                    "listen": Field(Text(), default="127.0.0.1:50162"),
                }
            ),
            default={},
        ),
        "payment_notify": Field(
            TableOf(
                {
                    "enabled": Field(Boolean(), default=False),
                    "listen": Field(Text(), default="127.0.0.1:50163"),
                    "certificate": Field(_OPTIONAL_PATH, default=""),
                    "key": Field(_OPTIONAL_PATH, default=""),
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
                    "proxy": Field(Text(), default=""),
                    "proxy_user": Field(Text(), default=""),
                    "proxy_password": Field(Text(), default="", secret=True),
                    "redial_first": Field(Duration(minimum=timedelta(milliseconds=10)), default=_SECOND / 10),
                    "redial_most": Field(Duration(minimum=_SECOND), default=30 * _SECOND),
                    "dead_after": Field(Duration(minimum=_SECOND, maximum=timedelta(minutes=5)), default=15 * _SECOND),
                    "calls": Field(Integer(minimum=1, maximum=1000), default=256),
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
                    "sink": Field(Text(choices=("relay", "file", "nats", "pull")), default="relay"),
                    "folder": Field(FilePath(), default="events"),
                    "nats": Field(
                        TableOf(
                            {
                                "servers": Field(ListOf(Text(min_length=1), max_items=16), default=[]),
                                "stream": Field(Text(min_length=1), default="HIS160"),
                                "prefix": Field(Text(min_length=1), default="his160.events"),
                                "create": Field(Boolean(), default=True),
                                "user": Field(Text(), default=""),
                                "password": Field(Text(), default="", secret=True),
                                "credentials": Field(_OPTIONAL_PATH, default=""),
                                "ca": Field(_OPTIONAL_PATH, default=""),
                                "certificate": Field(_OPTIONAL_PATH, default=""),
                                "key": Field(_OPTIONAL_PATH, default=""),
                            }
                        ),
                        default={},
                    ),
                }
            ),
            default={},
        ),
        "report": Field(
            TableOf(
                {
                    "enabled": Field(Boolean(), default=True),
                    "folder": Field(_OPTIONAL_PATH, default=""),
                    "files": Field(ListOf(Text(choices=tuple(sorted(REPORT_FORMATS)))), default=["xlsx"]),
                    "publish": Field(Boolean(), default=True),
                    "catch_up": Field(
                        Duration(minimum=timedelta(days=1), maximum=timedelta(days=62)), default=timedelta(days=7)
                    ),
                    "keep": Field(Duration(minimum=timedelta(days=1)), default=timedelta(days=400)),
                }
            ),
            default={},
        ),
        "insurance": Field(
            TableOf(
                {
                    "institution": Field(
                        Text(
                            pattern=r"([0-9A-Z]{12})?",
                            pattern_hint="12 digits or capital letters",
                            pattern_hint_zh="12 位数字或大写字母",
                        ),
                        default="",
                    ),
                    "msgid_sequences": Field(
                        Text(
                            pattern=r"[0-9]{1,4}-[0-9]{1,4}",
                            pattern_hint="first and last sequence, as 0-8999",
                            pattern_hint_zh="首尾序号，如 0-8999",
                        ),
                        default="0-8999",
                    ),
                    "family_account": Field(Text(choices=("in", "apart")), default="in"),
                    "use_account": Field(Boolean(), default=True),
                    "medical_type": Field(Text(choices=("11", "12", "13")), default="12"),
                    "quote_keep": Field(
                        Duration(minimum=60 * _SECOND, maximum=timedelta(hours=12)), default=timedelta(minutes=30)
                    ),
                }
            ),
            default={},
        ),
        "payment": Field(
            TableOf(
                {
                    "window": Field(
                        Duration(minimum=timedelta(minutes=2), maximum=timedelta(hours=2)),
                        default=timedelta(minutes=15),
                    ),
                    "patience": Field(
                        Duration(minimum=10 * _SECOND, maximum=timedelta(hours=1)), default=timedelta(minutes=2)
                    ),
                    "confirm_within": Field(
                        Duration(minimum=timedelta(minutes=10), maximum=timedelta(days=7)), default=timedelta(hours=2)
                    ),
                    "unconfirmed": Field(Text(choices=("refund", "report")), default="refund"),
                }
            ),
            default={},
        ),
        "limits": Field(
            TableOf(
                {
                    "calls": Field(Integer(minimum=1, maximum=10000), default=512),
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
