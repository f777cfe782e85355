"""Problem codes of reading files and of their shape: code -> what it means, in one line.

A code is stable: it is printed, searched for, and written into SARIF. Never reuse a number. Each room that reports
problems has a table ``CODES`` of its own, and each code stands in one of them alone; a test sees to both:

    H10x-H11x reading and syntax, H12x-H13x shape, H590 trying out    here
    H2xx contract, H3xx SQL, H4xx secrets                             his_db.mapping.finding
    H50x-H51x online, H6xx deep                                       his_db.workbench.codes
    H7xx configuration and state of the daemon                        agent.problem_codes
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        # reading and syntax
        "H100": "the file cannot be read",
        "H101": "not valid TOML",
        "H102": "the file is GBK, not UTF-8",
        "H103": "the file is UTF-16 or UTF-32, not UTF-8",
        "H104": "bytes that are not UTF-8: damaged, or two encodings in one file",
        "H105": "the file contains NUL characters",
        "H106": "the same key or table is written twice",
        "H107": "full-width (Chinese input) or invisible character where TOML wants an ASCII one",
        "H108": "text without quotes",
        "H109": "an inline table goes over several lines or ends with a comma",
        "H110": "a quote, bracket or brace is not closed",
        "H111": "a backslash in a double-quoted string is not an escape",
        "H112": "values are nested too deeply",
        "H113": "a number or date is not valid",
        # shape
        "H120": "unknown key",
        "H121": "a required key is missing",
        "H122": "a value of the wrong type",
        "H123": "a value that is not one of the choices",
        "H124": "text that does not have the required form",
        "H125": "a number or duration outside its limits",
        "H126": "too short, too few or too many",
        "H127": "not a duration",
        "H128": "fits none of the alternatives",
        "H129": "a key that does not have the required form",
        "H130": "not a file path",
        # trying out a candidate: his_db.canary
        "H590": "a read or watch that works with the running mappings fails with the candidate",
    }
)
