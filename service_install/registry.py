"""The only list of service systems: what ``sys.platform`` begins with -> "module:Class", imported when chosen."""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

from service_install.plan import ServiceError
from service_install.service_system import ServiceSystem

SYSTEMS: Final[dict[str, str]] = {
    "linux": "service_install.systems.systemd:Systemd",
    "win32": "service_install.systems.windows:WindowsServices",
}


def load_system(platform: str) -> ServiceSystem:
    """The service system of a platform. Raises ServiceError for one that has none of ours."""
    for begin, target in SYSTEMS.items():
        if platform.startswith(begin):
            module, _, name = target.partition(":")
            return cast(ServiceSystem, getattr(import_module(module), name)())
    raise ServiceError(
        f"不支持在 {platform} 上安装为服务",
        f"services on {platform} are not supported",
        fix_zh="请用 his160 run 直接运行",
        fix="run it with his160 run",
    )
