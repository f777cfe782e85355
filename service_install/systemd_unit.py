"""The systemd unit as text, and whether a unit on disk is still as we wrote it.

Hardened as far as an agent can be that listens, dials out and writes its own folders: ``systemd-analyze security``
gives 1.1 (a test says ≤ 1.5). A site's own changes belong into a drop-in (``systemctl edit his160``), never into this
file; its first line holds a digest of the rest, by which an edited unit is recognised.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from service_install.plan import ServiceError

WATCHDOG: Final = timedelta(seconds=60)
EXIT_USAGE: Final = 2
EXIT_CONFIG: Final = 78
_MARK: Final = "# his160 wrote this file: sha256="
_ADVICE: Final = """\
# 请勿直接修改本文件，改动请用 systemctl edit {name} 写入附加文件。
# Do not edit: put changes of your own into a drop-in, with systemctl edit {name}.
"""


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """What differs between units. ``command``: program and arguments; ``writable``: folders beside its own."""

    name: str
    command: Sequence[str]
    account: str
    environment_file: Path
    credentials: Mapping[str, Path]
    writable: Sequence[Path]
    stop_time: timedelta


def unit_text(facts: UnitFacts) -> str:
    """The whole unit, with the digest of our own text on its first line. Raises ServiceError for an odd path."""
    parts = [*_SECTIONS[0:1], _process(facts), *_SECTIONS[1:]]
    body = _ADVICE.format(name=facts.name) + "\n".join(parts).format(name=facts.name)
    return f"{_MARK}{_digest(body)}\n{body}"


def is_ours(text: str) -> bool:
    """Whether we wrote a unit and nobody has edited it since."""
    first, _, body = text.partition("\n")
    return first == _MARK + _digest(body)


def quoted(word: str, *, is_command: bool = False) -> str:
    """A word of a list, or an argument of a command, where ``$`` counts (systemd.service(5)). Raises ServiceError."""
    escaped = _path(word).replace("\\", "\\\\").replace('"', '\\"')
    if is_command:
        escaped = escaped.replace("$", "$$")
    return f'"{escaped}"' if any(c in word for c in " \"'\\;") or not word else escaped


def _process(facts: UnitFacts) -> str:
    """The part of [Service] that differs. Braces are doubled: ``str.format`` comes after."""
    program, *arguments = facts.command
    words = [quoted(program), *(quoted(word, is_command=True) for word in arguments)]
    lines = [
        f"ExecStart={' '.join(words)}",
        f"User={facts.account}",
        f"Group={facts.account}",
        f"EnvironmentFile=-{_path(str(facts.environment_file))}",
        f"TimeoutStopSec={math.ceil(facts.stop_time.total_seconds())}",
        f"WatchdogSec={math.ceil(WATCHDOG.total_seconds())}",
        f"RestartPreventExitStatus={EXIT_USAGE} {EXIT_CONFIG}",
        *(f"LoadCredential={name}:{_path(str(file))}" for name, file in sorted(facts.credentials.items())),
        *(f"ReadWritePaths={quoted(str(folder))}" for folder in facts.writable),
    ]
    return "\n".join(lines).replace("{", "{{").replace("}", "}}")


def _path(text: str) -> str:
    """A text in which systemd looks for % specifiers alone. Raises ServiceError for what no line can hold."""
    if not text.isprintable():
        raise ServiceError(f"路径含有不可见字符：{text!r}", f"a path holds unprintable characters: {text!r}")
    return text.replace("%", "%%")


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


_SECTIONS: Final = (
    """\
[Unit]
Description=his160: agent between the hospital's HIS and the 160 platform ({name})
Wants=network-online.target
After=network-online.target time-sync.target
# Never given up: the HIS may be away for a whole night.
StartLimitIntervalSec=0

[Service]
# Ready once the borders serve; the watchdog is fed while event loop, parts and store live.
Type=notify
NotifyAccess=main""",
    """\
TimeoutStartSec=180
# Wrong usage (2) and a bad configuration (78) do not get better by starting again.
Restart=always
RestartSec=5
# SIGTERM to the agent itself, which ends its calls first.
KillMode=mixed

WorkingDirectory=/var/lib/{name}
StateDirectory={name}
StateDirectoryMode=0750
ConfigurationDirectory={name}
ConfigurationDirectoryMode=0750
LogsDirectory={name}
LogsDirectoryMode=0750
Environment=PYTHONUTF8=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
UMask=0027
LimitNOFILE=65536
LimitCORE=0
TasksMax=512
OOMPolicy=stop

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateMounts=yes
PrivateUsers=yes
PrivateIPC=yes
RemoveIPC=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# The check of edited mappings makes itself nice.
SystemCallFilter=setpriority
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
""",
)
