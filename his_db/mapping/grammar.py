"""The shapes of mapping files: what keys there are and what type they have. Meaning is checked elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from his_db.document.shape import (
    AnyValue,
    Boolean,
    Duration,
    Field,
    FilePath,
    Integer,
    ListOf,
    MapOf,
    OneOf,
    Scalar,
    TableOf,
    Text,
)

SCHEMA: Final = 1
_NAME: Final = Text(
    pattern=r"[A-Za-z][A-Za-z0-9_]*",
    pattern_hint="letters, digits and _",
    pattern_hint_zh="字母开头，只含字母、数字和下划线",
)
_WORD: Final = Text(min_length=1)
_FORMAT: Final = OneOf(_WORD, ListOf(_WORD, min_items=1))
_MONEY: Final = Text(choices=("yuan", "fen"))

TRANSFORM: Final[Mapping[str, Field]] = {
    "date": Field(_WORD, doc="strftime format", doc_zh="日期格式"),
    "time": Field(_WORD, doc="strftime format", doc_zh="时间格式"),
    "datetime": Field(_WORD, doc="strftime format", doc_zh="日期时间格式"),
    "money": Field(_MONEY, doc="unit of the HIS", doc_zh="HIS 的金额单位"),
    "codes": Field(_WORD, doc="name of a code map", doc_zh="代码对照表名"),
    "case": Field(Text(choices=("upper", "lower"))),
    "pad": Field(Integer(1, 4000)),
    "max_bytes": Field(Integer(1, 4000)),
    "max_chars": Field(Integer(1, 4000)),
    "cut": Field(Boolean()),
    "charset": Field(Text(choices=("utf-8", "gbk", "gb18030", "gbk-raw"))),
    "number": Field(Boolean()),
    "digits": Field(Boolean()),
    "split": Field(_WORD, doc="what parts the text", doc_zh="分隔符"),
    "part": Field(Integer(0, 20), doc="which part, from 0", doc_zh="取第几段，从 0 起"),
    "read": Field(_WORD, doc="format that the text has", doc_zh="文本本身的日期时间格式"),
    "empty": Field(Text(choices=("null", "keep"))),
}
_SOURCE: Final[Mapping[str, Field]] = {
    "from": Field(_WORD, doc="request field or $value", doc_zh="请求字段或 $ 值"),
    "const": Field(Scalar(), doc="fixed value", doc_zh="固定值"),
    "step": Field(
        Text(pattern=r"[A-Za-z]\w*\.\w+", pattern_hint='"step.column"', pattern_hint_zh='"步骤名.列名"'),
        doc="column of an earlier step",
        doc_zh="前面步骤的列",
    ),
}
PARAM_KEYS: Final[Mapping[str, Field]] = {"name": Field(_WORD, required=True), **_SOURCE, **TRANSFORM}
PARAMS: Final = Field(ListOf(TableOf(PARAM_KEYS)), default=[])
PROCEDURE_PARAMS: Final = Field(
    ListOf(
        TableOf(
            {
                **PARAM_KEYS,
                "dir": Field(Text(choices=("in", "out", "inout", "return")), default="in"),
                "type": Field(_WORD),
            }
        )
    ),
    default=[],
)
WHERE: Final = Field(
    ListOf(
        TableOf(
            {
                "column": Field(_WORD, required=True),
                **_SOURCE,
                **TRANSFORM,
                "optional": Field(Boolean(), default=False),
                "compare": Field(Text(choices=("=", "!=", "<", "<=", ">", ">=")), default="="),
            }
        )
    ),
    default=[],
)

_CONTAINS: Final = TableOf({"text": Field(_WORD, required=True), "is": Field(Scalar(), required=True)})
CONVERSIONS: Final[Mapping[str, Field]] = {
    "trim": Field(Boolean(), default=True),
    "money": Field(_MONEY),
    "date": Field(_FORMAT),
    "time": Field(_FORMAT),
    "datetime": Field(_FORMAT),
    "codes": Field(_WORD),
    "contains": Field(ListOf(_CONTAINS, min_items=1), doc="values found in a note", doc_zh="备注里的文字"),
    "charset": Field(Text(choices=("gbk-raw",))),
    "true": Field(ListOf(Scalar(), min_items=1)),
    "empty": Field(ListOf(Scalar())),
    "default": Field(Scalar()),
}
_FIELD: Final = TableOf(
    {
        "to": Field(_WORD, required=True, doc="field of the contract", doc_zh="标准字段"),
        "column": Field(_WORD),
        "const": Field(Scalar()),
        "date_column": Field(_WORD),
        "time_column": Field(_WORD),
        **CONVERSIONS,
    }
)
FIELDS: Final = Field(ListOf(_FIELD, min_items=1), required=True)
_RESULT: Final = TableOf(
    {
        "into": Field(_WORD),
        "rows": Field(Text(choices=("one", "many", "optional"))),
        "not_found": Field(_WORD),
        "page_key": Field(_WORD),
        "set": Field(OneOf(Integer(0, 50), _WORD)),
        "at": Field(_WORD, doc="path of the rows in a reply", doc_zh="应答中各行的路径"),
        "fields": FIELDS,
    }
)
SQL_KEYS: Final[Mapping[str, Field]] = {"sql": Field(_WORD), "sql_file": Field(FilePath())}

_COUNT: Final = OneOf(_WORD, Integer(1, 10_000))
SEGMENTS: Final = TableOf(
    {
        "begin": Field(_WORD, required=True, doc="column: begin of the session", doc_zh="列：开始时间"),
        "end": Field(_WORD, required=True, doc="column: end of the session", doc_zh="列：结束时间"),
        "time": Field(_FORMAT),
        "minutes": Field(_COUNT),
        "count": Field(_COUNT),
        "each": Field(_COUNT),
        "total": Field(_COUNT),
        "taken": Field(_WORD),
        "taken_count": Field(_WORD),
        "used": Field(_WORD),
    }
)

_ROWS: Final = ListOf(TableOf({}, extra=AnyValue()))
_TABLE: Final = TableOf({}, extra=AnyValue())
_TEST_KEYS: Final[Mapping[str, Field]] = {
    "name": Field(_WORD, required=True),
    "now": Field(Scalar(), doc="date and time of the call", doc_zh="调用时刻"),
    "given": Field(_TABLE, default={}),
    "sends": Field(_TABLE, doc="what is bound", doc_zh="应当绑定的值"),
    "reply": Field(Text()),
    "status": Field(Integer(100, 599), default=200),
    "expect": Field(_TABLE, required=True),
}
TESTS: Final = Field(
    ListOf(
        TableOf(
            {
                **_TEST_KEYS,
                "rows": Field(_ROWS),
                "sets": Field(ListOf(_ROWS)),
                "returns": Field(_TABLE),
                "changed": Field(Integer(0, 10_000)),
                "steps": Field(_TABLE, default={}),
                "diagnosis": Field(Integer(1, 100)),
                "answers": Field(ListOf(_ROWS), default=[]),
            }
        )
    ),
    default=[],
)
_WATCH_TESTS: Final = Field(
    ListOf(
        TableOf(
            {
                "name": Field(_WORD, required=True),
                "before": Field(_TABLE),
                "after": Field(_TABLE),
                "expect": Field(_TABLE, required=True),
            }
        )
    ),
    default=[],
)

_ANSWER: Final = TableOf({"read": Field(_WORD, required=True), "to": Field(_WORD, required=True)})
OPERATION_KEYS: Final[Mapping[str, Field]] = {
    "schema": Field(Integer(), required=True),
    "operation": Field(_WORD, required=True),
    "source": Field(_WORD, default="his"),
    "kind": Field(_WORD, required=True),
    "effect": Field(Text(choices=("read", "write"))),
    "timeout": Field(Duration(timedelta(milliseconds=50), timedelta(minutes=10))),
    "note": Field(Text()),
    "probe": Field(_WORD),
    "answer": Field(OneOf(_ANSWER, ListOf(_ANSWER, min_items=1))),
    "cache": Field(Duration(timedelta(milliseconds=1), timedelta(seconds=1)), doc="reads only", doc_zh="仅查询"),
    "lock": Field(Duration(timedelta(seconds=1), timedelta(days=1)), default=timedelta(minutes=10)),
    "result": Field(ListOf(_RESULT), default=[]),
    "segments": Field(SEGMENTS),
    "test": TESTS,
}

GATEWAY_KEYS: Final[Mapping[str, Field]] = {
    "schema": Field(Integer(), required=True),
    "gateway": Field(_WORD, required=True, doc="name of the gateway", doc_zh="网关名称"),
    "kind": Field(Text(choices=("gateway",)), default="gateway"),
    "source": Field(_WORD, required=True, doc="a source of engine http", doc_zh="引擎为 http 的数据源"),
    "operations": Field(ListOf(_WORD, min_items=1), doc="without it: all", doc_zh="省略则为全部"),
    "timeout": Field(Duration(timedelta(milliseconds=50), timedelta(minutes=10))),
    "note": Field(Text()),
}
_GATEWAY_TESTS: Final = Field(
    ListOf(
        TableOf(
            {
                "operation": Field(_WORD, required=True, doc="which operation", doc_zh="测试哪个操作"),
                **_TEST_KEYS,
                "replies": Field(ListOf(Text(), min_items=1), doc="one after the other", doc_zh="依次返回"),
            }
        )
    ),
    default=[],
)


# A gateway file whose gateway is not known.
ANY_GATEWAY: Final = TableOf({**GATEWAY_KEYS, "test": _GATEWAY_TESTS}, extra=AnyValue())


def gateway_file(options: Mapping[str, Field]) -> TableOf:
    """The shape of a gateway file, with the options of its gateway."""
    table = TableOf(options)
    is_needed = any(field.required for field in options.values())
    wanted = Field(table, required=True) if is_needed else Field(table, default={})
    return TableOf({**GATEWAY_KEYS, "options": wanted, "test": _GATEWAY_TESTS})


CODES_FILE: Final = TableOf(
    {
        "schema": Field(Integer(), required=True),
        "codes": Field(_NAME, required=True),
        "note": Field(Text()),
        "map": Field(
            ListOf(
                TableOf(
                    {
                        "his": Field(Scalar(), required=True),
                        "is": Field(Scalar(), required=True),
                        "back": Field(Boolean(), default=True),
                    }
                ),
                min_items=1,
            ),
            required=True,
        ),
        "otherwise": Field(Scalar(), default="refuse"),
        "otherwise_back": Field(Scalar(), default="refuse"),
    }
)

WATCH_FILE: Final = TableOf(
    {
        "schema": Field(Integer(), required=True),
        "watch": Field(_NAME, required=True),
        "note": Field(Text()),
        "subject": Field(Text(choices=("appointment", "schedule")), required=True),
        "source": Field(_WORD, default="his"),
        "poll": Field(Duration(timedelta(milliseconds=50), timedelta(days=1))),
        "wake": Field(_WORD),
        "window": Field(
            TableOf(
                {
                    "past_days": Field(Integer(0, 3660), default=0),
                    "future_days": Field(Integer(0, 3660), default=0),
                }
            )
        ),
        "key": Field(_WORD, required=True),
        "platform_operators": Field(ListOf(Scalar()), default=[]),
        "vanish": Field(Text(choices=("ignore", "event")), default="ignore"),
        **SQL_KEYS,
        "params": PARAMS,
        "fields": FIELDS,
        "feed": Field(
            ListOf(
                TableOf(
                    {
                        "rung": Field(_WORD, required=True),
                        "table": Field(_WORD, required=True),
                        "key": Field(_WORD),
                        "column": Field(_WORD),
                        "where": Field(_WORD),
                        "margin": Field(Duration(timedelta(0), timedelta(minutes=10)), default=timedelta(seconds=2)),
                        "gap": Field(Duration(timedelta(seconds=1), timedelta(days=1)), default=timedelta(minutes=10)),
                        "options": Field(MapOf(Text()), default={}),
                    }
                )
            ),
            default=[],
        ),
        "reconcile": Field(Duration(timedelta(seconds=1), timedelta(hours=1)), default=timedelta(seconds=30)),
        "orders": Field(Duration(timedelta(0), timedelta(hours=1)), default=timedelta(seconds=10)),
        "event": Field(
            ListOf(
                TableOf(
                    {
                        "kind": Field(_WORD, required=True),
                        "when": Field(_WORD, required=True),
                        "occurred": Field(_WORD),
                    }
                )
            ),
            default=[],
        ),
        "test": _WATCH_TESTS,
    }
)

_REPORT: Final = TableOf(
    {
        "title": Field(_WORD, required=True),
        "note": Field(Text()),
        "source": Field(_WORD, default="his"),
        **SQL_KEYS,
        "object": Field(_WORD, doc="procedure", doc_zh="存储过程"),
        "call": Field(Text(choices=("procedure", "function")), default="procedure"),
        "params": PROCEDURE_PARAMS,
        "columns": Field(
            ListOf(
                TableOf(
                    {
                        "name": Field(_NAME, required=True),
                        "column": Field(_WORD),
                        "title": Field(_WORD, required=True),
                        "kind": Field(Text(choices=("text", "count", "fen", "date", "time", "percent")), required=True),
                        "total": Field(Boolean(), doc="whether a sum means something", doc_zh="是否合计"),
                        "mask": Field(Text(choices=("name", "document", "phone"))),
                        "rate": Field(ListOf(_WORD, min_items=2, max_items=2), default=[]),
                        **CONVERSIONS,
                    }
                ),
                min_items=1,
            ),
            required=True,
        ),
        "schedule": Field(_WORD, doc="cron: minute hour day month weekday", doc_zh="cron：分 时 日 月 周"),
        "period": Field(Text(choices=("day", "month")), default="day"),
        "subtotal": Field(_WORD, doc="column whose groups get a sum", doc_zh="按该列分组小计"),
        "quiet_hours": Field(ListOf(_WORD), default=[]),
        "timeout": Field(Duration(timedelta(milliseconds=50), timedelta(minutes=30))),
        "max_rows": Field(Integer(1, 1_000_000), default=100_000),
    }
)
REPORT_FILE: Final = TableOf(
    {
        "schema": Field(Integer(), required=True),
        "report": Field(MapOf(_REPORT, key_pattern=r"[A-Za-z][A-Za-z0-9_]*"), required=True),
    }
)

# Any operation file whose kind is not known yet: only what all kinds share is looked at.
ANY_OPERATION: Final = TableOf(OPERATION_KEYS, extra=AnyValue())
