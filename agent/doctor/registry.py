"""The only list of areas: name -> "module:function", in the order in which they are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Final, cast

from agent.doctor.check import Area


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an area is, and what it is called."""

    target: str
    zh: str
    en: str


AREAS: Final[Mapping[str, Entry]] = MappingProxyType(
    {
        "config": Entry("agent.doctor.areas.configuration:checks", "配置与密码", "configuration and secrets"),
        "machine": Entry("agent.doctor.areas.machine:checks", "机器", "machine"),
        "disk": Entry("agent.doctor.areas.disk:checks", "磁盘", "disk"),
        "ports": Entry("agent.doctor.areas.ports:checks", "端口", "ports"),
        "certificates": Entry("agent.doctor.areas.certificates:checks", "证书", "certificates"),
        "relay": Entry("agent.doctor.areas.relay:checks", "160 中继", "relay"),
        "sources": Entry("agent.doctor.areas.sources:checks", "HIS 数据库", "databases of the HIS"),
        "mappings": Entry("agent.doctor.areas.mappings:checks", "映射", "mappings"),
        "store": Entry("agent.doctor.areas.store:checks", "状态库", "state store"),
    }
)


def load(name: str) -> Area:
    """An area's function. Raises KeyError for one that is not listed."""
    module, _, function = AREAS[name].target.partition(":")
    return cast(Area, getattr(import_module(module), function))
