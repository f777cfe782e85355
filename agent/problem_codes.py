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
        "H713": "mappings that could not be checked: the check ended, or took too long",
        "H714": "mappings in the folder where the agent keeps its copies",
        "H715": "options of a gateway that the configuration says otherwise",
        "H716": "an engine whose driver is not installed",
        # his160 doctor
        "H720": "a check of the doctor that failed itself, or took too long",
        "H721": "too little memory, or not a program of 64 bits",
        "H722": "too few files may be open",
        "H723": "the machine is in another time zone than the hospital",
        "H724": "the clocks of the machine and the database differ",
        "H725": "little or no room on a disk",
        "H726": "a folder that cannot be written",
        "H727": "the state store on a network share",
        "H728": "a port that cannot be had",
        "H729": "a certificate that is not good now, or not for long",
        "H730": "a private key that cannot be used, or of another certificate",
        "H731": "a chain of certificates that does not hold, or an authority that is none",
        "H732": "a certificate that names another",
        "H733": "a secret that every account of the machine can read",
        "H734": "a relay that cannot be reached",
        "H735": "a relay with which TLS does not work",
        "H736": "a database whose time-outs do not cut",
        "H737": "a state store that cannot be used",
        "H738": "an audit chain that is broken",
        "H739": "work in the state store that waits for a person",
        "H740": "a bus of events that cannot be used",
    }
)
