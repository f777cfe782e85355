"""What Oracle's error codes mean: ORA- from the server, DPY- and DPI- from python-oracledb (thin and thick).

Thin mode tells every failure to connect as DPY-6005 with code 0; the cause is the code nested in the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from his_db.engine import Fault


def _table(prefix: str, **faults: str) -> dict[str, Fault]:
    return {
        f"{prefix}-{number}": Fault[name] for name, numbers in faults.items() for number in re.findall(r"\d+", numbers)
    }


_CODES: Final[Mapping[str, Fault]] = {
    **_table(
        "ORA",
        # 04068: package state discarded by a recompile; the next call of the same session works.
        DEADLOCK="00060 08177 04020 04068 04061 04065",
        LOCK_TIMEOUT="00051 00054 30006 04021 02049 14411",
        TIMEOUT="01013 00040 01555 12609 00068",  # 01555: snapshot too old
        CONSTRAINT="00001 01400 01407 02290 02291 02292 02299 01402 01732",
        RIGHTS="01031 01720 01950 41900 28113",
        CONNECT="""
            01005 01017 01033 01034 01035 01040 01045 01109 12154 12170 12505 12514 12516 12518 12519 12520 12526
            12528 12541 12543 12545 28000 28001 28009 28040 28547 00018 00020
        """,
        LOST="""
            00022 00028 00031 00600 00603 01012 01089 01090 01092 02396 02399 03113 03114 03135 03136 12537 12547
            12570 12571 12592 25401 25402 25403 25404 25405 25408 25409 30926 64307
        """,
        SCHEMA="""
            00903 00904 00913 00918 00919 00932 00942 00947 00955 00957 00972 00976 00979 00980 01006 01008 01036
            01445 01446 01733 01745 01747 01779 02019 02289 04042 04043 04063 04067 06550 06553 06564 06576 12704
            22905 32795
        """,
        SYNTAX="""
            00900 00901 00905 00906 00907 00908 00909 00911 00917 00920 00921 00922 00923 00924 00925 00926 00927
            00928 00930 00933 00934 00936 00937 00938 00969 01740 01756 01789 03048 03049
        """,
        DATA="""
            01401 01403 01410 01422 01426 01427 01438 01461 01476 01483 01489 01722 01830 01839 01840 01841 01843 01847
            01850 01858 01861 01862 01873 02014 06502 06503 06504 12713 12899 22835 29275
        """,
        READ_ONLY="01456 16000 16456",
    ),
    **_table(
        "DPY",
        CONNECT="1001 3001 3010 3015 3016 4027",  # 3010, 3015: servers and passwords that thin mode cannot
        LOST="4011 5001 5002 5003",
        TIMEOUT="4024",
        SCHEMA="2006 2012 4008 4009 4010 4022",
        DATA="3002 3003 3013 3027",
    ),
    **_table("DPI", CONNECT="1010 1047 1072", LOST="1080", TIMEOUT="1067"),
    **_table("PLS", SYNTAX="00103"),
}
_CODE: Final = re.compile(r"\b(?:ORA|DPY|DPI|TNS|PLS)-\d+")
_RAISED: Final = re.compile(r"ORA-(20\d{3}): ?(.*?)(?=\n(?:ORA|PLS)-\d|\nHelp: |\Z)", re.DOTALL)
_TRACE: Final = frozenset({"ORA-06512", "ORA-06510", "ORA-02091", "ORA-04088"})  # where, not what
_OBJECT: Final = re.compile(
    r"""constraint \((?P<constraint>[\w$#.]+)\)"""
    r"""|(?:into|column|update) \(?(?P<column>"[\w$#]+"(?:\."[\w$#]+")*)"""
    r"""|table or view (?P<table>"?[\w$#]+"?(?:\."?[\w$#]+"?)*) does"""
    r"""|package (?:body )?(?P<package>"?[\w$#.]+"?)"""
    r"""|(?:identifier|component|call to) '(?P<identifier>[\w$#.]+)'"""
    r"""|(?P<invalid>"[\w$#]+"(?:\."[\w$#]+")*): invalid identifier"""
    r"""|(?:procedure, function, package, or type|object) (?P<object>"?[\w$#.]+"?)"""
)
_LOGIN_NOISE: Final = re.compile(r"\s*\(CONNECTION_ID=[^)]*\)")


def text_of(error: BaseException) -> str:
    """The message of a python-oracledb exception."""
    inner: Any = error.args[0] if error.args else ""
    return str(getattr(inner, "message", inner))


def codes_of(error: BaseException) -> list[str]:
    """Every code in an exception: its own first, then those nested in its text."""
    inner: Any = error.args[0] if error.args else None
    own = getattr(inner, "full_code", "") or ""
    found = _CODE.findall(text_of(error))
    return [code for code in dict.fromkeys([own, *found]) if code]


def raised(error: BaseException) -> tuple[str, str] | None:
    """(code, sentence) of RAISE_APPLICATION_ERROR, where that is what the HIS said."""
    text = text_of(error)
    match = _RAISED.search(text)
    first = next((code for code in codes_of(error) if code not in _TRACE), "")
    if match is None or first != f"ORA-{match[1]}":
        return None
    return first, match[2].strip()


def fault_of(error: BaseException) -> Fault:
    """The fault of an error that came after connecting."""
    if raised(error) is not None:
        return Fault.CONSTRAINT
    codes = [code for code in codes_of(error) if code not in _TRACE]
    if "ORA-06550" in codes and "PLS-00103" in codes:
        return Fault.SYNTAX
    for code in codes:
        fault = _CODES.get(code)
        if fault is not None:
            return fault
    if any(code.startswith(("DPY-6", "TNS-")) for code in codes):
        return Fault.LOST
    if any(code.startswith(("DPY-2", "DPY-3")) for code in codes):
        return Fault.SCHEMA
    return Fault.OTHER


def object_in(text: str) -> str:
    """The object that a message names, or empty. Never a value: ORA-00001 may quote those after the name."""
    match = _OBJECT.search(text)
    return "" if match is None else next(group for group in match.groups() if group).replace('"', "")


def login_text(error: BaseException) -> str:
    """Why nobody could connect; thin mode says so in the lines after the first."""
    lines = [_LOGIN_NOISE.sub("", line).strip() for line in text_of(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith("Help:")]
    return "; ".join(kept)[:300]
