"""Passwords that stand in a configuration in the places that are not meant for them: options, connection strings, urls.

The place that is meant holds a reference (``agent.secret``), and that is looked at where it is resolved. No message
repeats a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from his_db.document.located import Document, Path
from his_db.document.problem import Problems

_NAME: Final = re.compile(r"(?:password|passwd|pwd|secret|token|api_?key)$", re.IGNORECASE)
_IN_STRING: Final = re.compile(r"(?:^|[;?&\s])\s*(?:pwd|password|passwd)\s*=\s*[^;&\s]", re.IGNORECASE)
_IN_URL: Final = re.compile(r"(?:^|//)[^/\s:@\[\]]*:[^/\s@]+@")


def check_secrets(document: Document, values: Mapping[str, Any], problems: Problems) -> None:
    """Report each with H701."""
    for path, fix, fix_zh in _found(values):
        problems.add(
            document.value_place(path),
            "H701",
            "a password may not stand in the configuration",
            "密码不能直接写在配置文件中",
            fix,
            fix_zh,
        )


def _found(values: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    to_password = ('take it out and write password = "@env:NAME"', '去掉它，另写 password = "@env:变量名"')
    for name, source in (values.get("source") or {}).items():
        for key in ("host", "database", "user"):
            if _holds_one(source.get(key)):
                yield ("source", name, key), *to_password
        for option, value in (source.get("options") or {}).items():
            if value and (_NAME.search(option) or _holds_one(value)):
                yield ("source", name, "options", option), *to_password
    state = values.get("state") or {}
    url = state.get("url")
    if isinstance(url, str) and "password" in dict(_query(url)):
        yield ("state", "url"), *to_password
    for index, server in enumerate(((values.get("delivery") or {}).get("nats") or {}).get("servers") or ()):
        if _holds_one(server):
            yield (
                ("delivery", "nats", "servers", index),
                'take it out and write user = "…" and password = "@env:NAME"',
                '去掉它，另写 user = "…" 和 password = "@env:变量名"',
            )


def _holds_one(value: object) -> bool:
    return isinstance(value, str) and bool(_IN_STRING.search(value) or _IN_URL.search(value))


def _query(url: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(urlsplit(url).query)
    except ValueError:  # told where urls are checked
        return []
