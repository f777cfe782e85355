"""Checking a gateway file: which gateway, which of its operations, its source, its options, its tests."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Final

from his_db import registry
from his_db.document.finding import Words
from his_db.document.located import Document, Path
from his_db.document.problem import Problems
from his_db.gateway import Gateway
from his_db.mapping.check_operation import UNSUPPORTED, check_engine, check_source
from his_db.mapping.check_tests import check_operation_tests
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.model import OperationMapping

GATEWAY: Final = "gateway"
CHECK_REFUND: Final = "RefundCheckService.CheckRefund"
_GIVES_BACK: Final = (
    "MerchantService.RefundTrade",
    "InsuranceGatewayService.CancelSettlement",
    "MobilePaymentService.RefundOrder",
)


def gateway_of(document: Document, report: Reporter) -> Gateway | None:
    """The gateway that a file names; None after a report, or where the shape will say what is the matter."""
    name = document.data.get(GATEWAY)
    if not isinstance(name, str):
        return None
    entry = registry.GATEWAYS.get(name)
    if entry is None:
        known = ", ".join(registry.GATEWAYS)
        message = Words(f'there is no gateway "{name}"; there are {known}', f"没有网关 “{name}”；可用的有 {known}")
        report.value("H123", (GATEWAY,), message, did_you_mean(name, registry.GATEWAYS))
        return None
    gateway: Gateway = registry.load(entry)()
    return gateway


def operations_of(values: Mapping[str, Any], gateway: Gateway, report: Reporter) -> list[tuple[str, Path]]:
    """The operations that the file maps, and where each is written; where it lists none, all that its options allow."""
    listed = values.get("operations")
    if listed is None:
        return [(name, (GATEWAY,)) for name in sorted(gateway.able(values.get("options", {})))]
    found: list[tuple[str, Path]] = []
    for at, name in enumerate(listed):
        place: Path = ("operations", at)
        if name not in gateway.operations:
            message = Words(f"the gateway {gateway.name} cannot do {name}", f"网关 {gateway.name} 不支持 {name}")
            report.value("H203", place, message, did_you_mean(name, gateway.operations))
        elif any(name == before for before, _ in found):
            message = Words(f"{name} is listed twice", f"{name} 写了两次")
            report.value("H202", place, message, Words("delete one of them", "删除其中一个"))
        else:
            found.append((name, place))
    return found


def check_gateway(
    mappings: list[OperationMapping], values: Mapping[str, Any], gateway: Gateway, report: Reporter
) -> None:
    """The whole file; its shape is right. `mappings`: what it maps, at least one."""
    first = mappings[0]
    check_source(first.source, first.site.sources, report)
    check_engine(first, report, ("source",))
    names = frozenset(mapping.operation.name for mapping in mappings)
    gateway.check(values["options"], names, report)
    for mapping in mappings:
        check_operation_tests(mapping, report)
    for at, test in enumerate(values.get("test", [])):
        if test["operation"] not in names:
            message = Words(f"{test['operation']} is not mapped by this file", f"本文件没有映射 {test['operation']}")
            report.value("H237", ("test", at, "operation"), message, did_you_mean(test["operation"], names))


def check_refunds_are_asked(operations: Mapping[str, OperationMapping], unread: Set[str], problems: Problems) -> None:
    """Money that goes back through this set comes before the red row of the HIS, so the HIS should be asked before it.

    Told once for each file that gives money back. A file that says `unsupported` has thought about it and says why.
    `unread`: operations of files that cannot be read.
    """
    if CHECK_REFUND in operations or CHECK_REFUND in unread:
        return
    told: set[str] = set()
    for name in _GIVES_BACK:
        mapping = operations.get(name)
        if mapping is None or mapping.kind == UNSUPPORTED or mapping.document.file in told:
            continue
        told.add(mapping.document.file)
        listed = mapping.document.data.get("operations")
        path: Path = ("operations", listed.index(name)) if isinstance(listed, list) else (GATEWAY,)
        message = Words(
            f"{name} gives money back, and {CHECK_REFUND} is not mapped: what the HIS has against a refund "
            "(day-closed, prescriptions) comes to light when the money is gone",
            f"{name} 会退钱，却没有映射 {CHECK_REFUND}：HIS 不许退的情形（已日结、存在处方等）要到钱退出之后才显出来",
        )
        fix = Words(
            'map CheckRefund, or write kind = "unsupported" and why for it',
            '映射 CheckRefund；确实没有这类规矩时，为它写 kind = "unsupported" 并在 why 说明',
        )
        report = Reporter(mapping.document, problems)
        report.warn("H242", path if mapping.kind == GATEWAY else ("operation",), message, fix)


def refuse_single_operation(report: Reporter) -> None:
    """An operation file that says kind = "gateway"."""
    message = Words(
        "a gateway maps several operations in one file of its own", "网关在单独的文件里一次映射多个操作，不写 operation"
    )
    fix = Words(
        'write gateway = "<name>" and operations = [ … ] instead of operation',
        '改写为 gateway = "<名称>" 和 operations = [ … ]',
    )
    report.value("H203", ("kind",), message, fix)
