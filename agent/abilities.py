"""What the agent can do: what the site maps, and what commands over several systems make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from his_db.generation import Capability
from sync.composed_reads import is_composed
from sync.registry import load_sagas
from sync.saga import is_possible
from sync.saga_context import SagaRules


class Abilities(Protocol):
    """What mappings can do (``his_db.generation.Generation``, ``his_db.guard.Abilities``)."""

    @property
    def revision(self) -> str: ...

    def capabilities(self) -> Iterable[Capability]: ...


@dataclass(frozen=True, slots=True)
class ComposedAbilities:
    """``Abilities`` with the sagas that the mappings allow."""

    revision: str
    found: tuple[Capability, ...]

    def capabilities(self) -> tuple[Capability, ...]:
        return self.found


def composed(
    abilities: Abilities,
    maps: Callable[[str], bool],
    rules: SagaRules,
    *,
    switched_off: Callable[[str], str | None] = lambda _: None,
) -> ComposedAbilities:
    """The abilities, and every operation that a saga or a composed read answers in place of a mapping."""
    possible = {saga.operation for saga in load_sagas().values() if not saga.is_own and is_possible(saga, maps, rules)}

    def ability(item: Capability) -> Capability:
        if item.available or maps(item.operation):
            return item
        if item.operation not in possible and not is_composed(item.operation, maps):
            return item
        note = switched_off(item.operation)
        return replace(item, available=note is None, note=note or "")

    return ComposedAbilities(abilities.revision, tuple(ability(item) for item in abilities.capabilities()))
