"""Codes of what the online and deep check find (H5xx, H6xx). Stable; never reuse a number."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "H500": "the source does not answer, or refuses the login",
        "H501": "Chinese text does not survive the way there and back",
        "H502": "no such table, view or function",
        "H503": "no such column",
        "H504": "the type of the column or parameter does not fit the field",
        "H505": "no such procedure",
        "H506": "a parameter that the procedure does not have, or in another direction",
        "H507": "a parameter without a value",
        "H508": "a right is missing",
        "H509": "a right in excess: the mappings do not need it",
        "H510": "a polled column without an index",
        "H511": "the login may do far more than an agent needs",
        "H512": "a CHAR column compared with a text that is not padded",
        "H513": "values in the live data that no code map knows: rows with them are refused",
        "H514": "values in the live data that only `otherwise` of the code map catches",
        "H515": "the values of a code column could not be counted",
        "H516": "Chinese text of a mapped column arrives damaged",
        "H600": "the database refuses the statement",
        "H601": "the statement does not give this column",
        "H602": "the statement cannot be rehearsed on this engine",
    }
)
