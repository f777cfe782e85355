"""`docs/zh/fields.md`: every operation that can be mapped, its request and answer, from the contract itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from his_db import contract
from his_db.contract import ContractOperation
from his_db.mapping.answer import default_not_found
from his_db.mapping.paths import sort_of

_SORTS: Final = {
    "text": "文本",
    "int": "整数",
    "money": "金额（分）",
    "bool": "是/否",
    "enum": "代码",
    "date": "日期",
    "time": "时刻",
    "timestamp": "时间点",
    "list": "列表",
    "message": "记录",
    "map": "名称=文本",
    "": "其他",
}
_HEAD: Final = """# 字段手册

由合同（`proto/his160/v1`、`proto/his160/site/v1`）自动生成，请勿手工修改：
`his160 mapping fields --write docs/zh/fields.md`。

- “必填”：映射中必须给出，且每一行都要有值；“个人”：属于个人信息，不写入日志，工具中以 `***` 显示。
- 金额一律以分为单位；映射中用 `money = "yuan"` 或 `"fen"` 说明 HIS 的单位。
- 代码：映射中写短名（如 `BOOKED`），或用代码对照表 `codes/*.toml`。
"""


def field_reference() -> str:
    """The whole document."""
    lines = [_HEAD]
    enums: dict[str, EnumDescriptor] = {}
    messages: dict[str, Descriptor] = {}
    service = ""
    for name in contract.mappable_names():
        operation = contract.operation(name)
        if name.partition(".")[0] != service:
            service = name.partition(".")[0]
            lines += [f"## {service}", "", _comment(operation.method.containing_service.full_name), ""]
        lines += _operation(operation, messages, enums)
    lines += ["## 记录", ""]
    done: set[str] = set()
    while len(done) < len(messages):
        for full_name, descriptor in sorted(messages.items()):
            if full_name not in done:
                done.add(full_name)
                lines += [f"### {descriptor.name}", "", _comment(full_name), ""]
                lines += [*_table(descriptor, messages, enums), ""]
    lines += ["## 代码", ""]
    for full_name, enum in sorted(enums.items()):
        lines += [f"### {enum.name}", "", _comment(full_name), "", "| 短名 | 说明 |", "|---|---|"]
        lines += [
            f"| `{short}` | {_comment(_value_name(enum, number))} |"
            for short, number in contract.enum_numbers(enum).items()
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _operation(
    operation: ContractOperation, messages: dict[str, Descriptor], enums: dict[str, EnumDescriptor]
) -> Iterator[str]:
    yield from (f"### {operation.name}", "", _comment(operation.method.full_name), "")
    facts = ["查询" if operation.is_read else "写入"]
    if operation.is_internal:
        facts.append("内部操作：只由代理自己调用")
    if operation.page_size:
        facts.append(f"分页：默认 {operation.page_size}，最多 {operation.page_maximum}")
    if operation.is_read and operation.list_field is None:
        facts.append(f"查不到时：`{default_not_found(operation.name)}`")
    yield from ("；".join(facts) + "。", "", "请求：", "")
    yield from _table(operation.request, messages, enums)
    yield from ("", "应答：", "")
    yield from _table(operation.response, messages, enums)
    yield ""


def _table(descriptor: Descriptor, messages: dict[str, Descriptor], enums: dict[str, EnumDescriptor]) -> Iterator[str]:
    fields = list(descriptor.fields)
    if not fields:
        yield "（无字段）"
        return
    yield from ("| 字段 | 类型 | 必填 | 个人 | 说明 |", "|---|---|---|---|---|")
    for field in fields:
        required = "必填" if contract.is_required(field) else ""
        personal = "个人" if contract.is_personal(field) else ""
        kind = _kind(field, messages, enums)
        yield f"| `{field.name}` | {kind} | {required} | {personal} | {_comment(field.full_name)} |"


def _kind(field: FieldDescriptor, messages: dict[str, Descriptor], enums: dict[str, EnumDescriptor]) -> str:
    sort = sort_of(field)
    if field.enum_type is not None:
        enums[field.enum_type.full_name] = field.enum_type
        return f"代码 [{field.enum_type.name}](#{field.enum_type.name.lower()})"
    below = field.message_type
    if below is not None and sort in {"message", "list"}:
        if below.full_name.startswith("his160."):
            messages[below.full_name] = below
            return f"{_SORTS[sort]} [{below.name}](#{below.name.lower()})"
        return f"{_SORTS[sort]} {below.name}"
    return _SORTS[sort]


def _value_name(enum: EnumDescriptor, number: int) -> str:
    # A value's comment stands under the enum's own name in the descriptor set.
    return f"{enum.full_name}.{enum.values_by_number[number].name}"


def _comment(full_name: str) -> str:
    return " ".join(contract.comment(full_name).split()).replace("|", "\\|")
