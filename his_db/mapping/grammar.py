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
    "charset": Field(Text(choices=("utf-8", "gbk", "gb18030"))),
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

_FIELD: Final = TableOf(
    {
        "to": Field(_WORD, required=True, doc="field of the contract", doc_zh="标准字段"),
        "column": Field(_WORD),
        "const": Field(Scalar()),
        "trim": Field(Boolean(), default=True),
        "money": Field(_MONEY),
        "date": Field(_FORMAT),
        "time": Field(_FORMAT),
        "datetime": Field(_FORMAT),
        "date_column": Field(_WORD),
        "time_column": Field(_WORD),
        "codes": Field(_WORD),
        "true": Field(ListOf(Scalar(), min_items=1)),
        "empty": Field(ListOf(Scalar())),
        "default": Field(Scalar()),
    }
)
FIELDS: Final = Field(ListOf(_FIELD, min_items=1), required=True)
_RESULT: Final = TableOf(
    {
        "into": Field(_WORD),
        "rows": Field(Text(choices=("one", "many", "optional"))),
        "not_found": Field(_WORD),
        "page_key": Field(_WORD),
        "set": Field(Integer(0, 50)),
        "fields": FIELDS,
    }
)
SQL_KEYS: Final[Mapping[str, Field]] = {"sql": Field(_WORD), "sql_file": Field(FilePath())}

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
    "lock": Field(Duration(timedelta(seconds=1), timedelta(days=1)), default=timedelta(minutes=10)),
    "result": Field(ListOf(_RESULT), default=[]),
}

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
    }
)

# Any operation file whose kind is not known yet: only what all kinds share is looked at.
ANY_OPERATION: Final = TableOf(OPERATION_KEYS, extra=AnyValue())
