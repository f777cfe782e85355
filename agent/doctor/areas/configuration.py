"""The configuration as the check sees it, and who may read the files of its secrets."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agent.doctor.check import Check, Context
from agent.doctor.finding import Findings
from his_db.document.located import load_document

_FILE: Final = "@file:"
_SECRETS: Final = frozenset({"password", "proxy_password"})
_OTHERS: Final = stat.S_IRWXO


def checks(context: Context) -> Sequence[Check]:
    """One."""
    return [Check("config.toml", look)]


def look(context: Context) -> Findings:
    """Its problems; files of secrets and keys that every account of the machine can read."""
    findings = Findings()
    findings.take(context.reading.problems, is_configuration=True)
    if not context.reading.problems:
        names = ", ".join(context.settings.sources)
        findings.good(f"配置正确，数据源：{names}", f"the configuration is right; sources: {names}")
    if os.name == "posix":
        for where, path in _secret_files(context):
            _look_at_mode(where, path, findings)
    return findings


def _look_at_mode(where: str, path: Path, findings: Findings) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # told by the configuration's own check
    if mode & _OTHERS:
        findings.warn(
            "H733",
            where,
            f"本机所有账号都能读取 {path}",
            f"every account of this machine can read {path}",
            f"chmod o-rwx {path}（服务账号须能读取）",
            f"chmod o-rwx {path} (the account of the service must be able to read it)",
        )


def _secret_files(context: Context) -> Iterator[tuple[str, Path]]:
    folder = context.file.parent
    for where, reference in _references(load_document(context.file).data, ()):
        yield where, folder / reference.removeprefix(_FILE)
    settings = context.settings
    keys = {"[server] key": settings.server.key, "[relay] key": settings.relay.key}
    for section, place in (("[desk]", settings.desk.place), ("[payment_notify]", settings.payment_notify)):
        if place is not None:
            keys[f"{section} key"] = place.key
    yield from ((where, path) for where, path in keys.items() if path is not None)


def _references(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _references(value, (*path, key))
        elif key in _SECRETS and isinstance(value, str) and value.startswith(_FILE):
            yield f"[{'.'.join(path)}] {key}", value
