"""What a gateway's mapping and config.toml both say of 医保 must be the same: a difference costs money, silently.

A gateway adds up amounts by its own options and a saga by ``[insurance]``; and 医保 takes no msgid that does not begin
with the institution that signs in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent.config_money import InsuranceSettings
from his_db.document.finding import Words
from his_db.document.problem import DocumentError, Problems
from his_db.mapping.finding import Reporter
from his_db.mapping.model import MappingSet

_FAMILY: Final = "family_account"
_OPTION: Final[Mapping[bool, str]] = {False: "inside", True: "beside"}
_CONFIG: Final[Mapping[str, str]] = {"inside": "in", "beside": "apart"}
_INSTITUTION: Final = "fixmedins_code"


def check_agreement(mappings: MappingSet, insurance: InsuranceSettings) -> None:
    """Raises DocumentError with every option of a gateway that ``[insurance]`` says otherwise."""
    problems = Problems()
    seen: set[str] = set()
    for mapping in mappings.operations.values():
        options = mapping.values.get("options")
        if mapping.kind != "gateway" or not isinstance(options, Mapping) or mapping.document.file in seen:
            continue
        seen.add(mapping.document.file)
        report = Reporter(mapping.document, problems)
        _check_family(options, insurance, report)
        _check_institution(options, insurance, report)
    if problems:
        raise DocumentError(problems)


def _check_family(options: Mapping[str, Any], insurance: InsuranceSettings, report: Reporter) -> None:
    said = options.get(_FAMILY)
    if said is None or said == _OPTION[insurance.family_apart]:
        return
    config = _CONFIG[_OPTION[insurance.family_apart]]
    message = Words(
        f'family_account is "{said}" here, and "{config}" in [insurance] of config.toml: amounts would not add up',
        f"这里 family_account 为 “{said}”，config.toml 的 [insurance] family_account 为 “{config}”，金额会对不上",
    )
    fix = Words(
        f'write "{_OPTION[insurance.family_apart]}" here, or "{_CONFIG[said]}" there: as the province counts',
        f"按当地口径统一：这里写 “{_OPTION[insurance.family_apart]}”，或 config.toml 写 “{_CONFIG[said]}”",
    )
    report.value("H715", ("options", _FAMILY), message, fix)


def _check_institution(options: Mapping[str, Any], insurance: InsuranceSettings, report: Reporter) -> None:
    said = options.get(_INSTITUTION)
    if said is None or insurance.institution in ("", said):
        return
    message = Words(
        f"{_INSTITUTION} is not [insurance] institution of config.toml: 医保 would take none of the msgids",
        f"{_INSTITUTION} 与 config.toml 的 [insurance] institution 不同，医保会拒收全部 msgid",
    )
    report.value("H715", ("options", _INSTITUTION), message, Words("write the same", "请改为相同的机构编号"))
