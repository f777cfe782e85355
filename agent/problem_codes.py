"""Problem codes of the daemon (H7xx): configuration, environment, secrets, state. Stable; never reuse a number."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "H700": "a variable of the environment that sets nothing",
        "H701": "a password that stands in the configuration itself",
        "H702": "not a reference to a secret",
        "H703": "a secret that is not there or cannot be read",
        "H704": "not a time zone",
        "H705": "settings that need each other",
        "H706": "a border without TLS that is not on the loopback",
        "H707": "a file or folder that is not there",
        "H708": "not an address",
        "H709": "not hours of the day",
        "H710": "no such operation in the contract",
        "H711": "an operation that cannot be a canary",
        "H712": "what was published cannot be used: pointer or archive are damaged",
    }
)
