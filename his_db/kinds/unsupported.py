"""kind = "unsupported": the site says that it cannot do an operation, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from his_db.document.finding import Words
from his_db.document.shape import Field, Text
from his_db.errors import OperationNotMapped
from his_db.kind import Runner
from his_db.mapping.finding import Reporter
from his_db.mapping.model import OperationMapping


class UnsupportedKind:
    """`why` is shown by GetInfo; the RPC answers UNIMPLEMENTED."""

    name: ClassVar[str] = "unsupported"
    effects: ClassVar[frozenset[str]] = frozenset({"read", "write"})

    def keys(self) -> Mapping[str, Field]:
        return {"why": Field(Text(min_length=1), required=True, doc="for people", doc_zh="给人看的原因")}

    def check(self, mapping: OperationMapping, report: Reporter) -> None:
        if mapping.results:
            report.key("H230", ("result",), Words("an unsupported operation has no result", "不支持的操作没有返回结果"))

    def compile(self, mapping: OperationMapping) -> Runner:
        raise OperationNotMapped(mapping.operation.name, mapping.values.get("why", ""))
