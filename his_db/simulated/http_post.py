"""A call-back of a simulator to whoever listens on this machine."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


def post(url: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """POST to a loopback address; status and text of the answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=10)
    try:
        connection.request("POST", parts.path or "/", body, dict(headers))
        answer = connection.getresponse()
        return {"status": answer.status, "body": answer.read().decode("utf-8", "replace")}
    finally:
        connection.close()
