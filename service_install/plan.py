"""An installation as data: steps that can be shown before they are done, are skipped where they are done already, and
are undone in reverse when a later one fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

_LOG: Final = logging.getLogger(__name__)

Undo = Callable[[], None]
"""Puts back what a step has changed. Raises ServiceError."""


class ServiceError(Exception):
    """The operating system refused, or what was found forbids it. ``fix``: what a person can do about it."""

    def __init__(self, zh: str, en: str, *, fix_zh: str = "", fix: str = "") -> None:
        super().__init__(en)
        self.zh = zh
        self.en = en
        self.fix_zh = fix_zh
        self.fix = fix


def refused(zh: str, en: str, error: OSError) -> ServiceError:
    """What the operating system refused, with its reason."""
    reason = error.strerror or type(error).__name__
    return ServiceError(f"{zh}：{reason}", f"{en}: {reason}")


@dataclass(frozen=True, slots=True)
class Words:
    """The same sentence in two languages."""

    zh: str
    en: str

    def __str__(self) -> str:
        return f"{self.zh} / {self.en}"


class Step(Protocol):
    """One effect on the machine. A step that raises has changed nothing."""

    @property
    def does(self) -> Words:
        """What it does, with the names and paths it is about."""

    @property
    def undoes(self) -> Words:
        """What undoing it does."""

    def is_done(self) -> bool:
        """Whether the machine is as the step would make it. Changes nothing."""

    def do(self) -> Undo:
        """Do it; how to put back what was there before. Raises ServiceError."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of one command in order. ``after``: what a person should know when it has gone well."""

    title: Words
    steps: Sequence[Step]
    after: Sequence[Words] = ()


class PlanFailed(Exception):
    """A step failed. ``undone``: what has been put back, the last first; ``left``: what could not be, and why."""

    def __init__(self, step: Step, error: ServiceError) -> None:
        super().__init__(error.en)
        self.step = step
        self.error = error
        self.undone: list[Step] = []
        self.left: list[tuple[Step, ServiceError]] = []


@dataclass(slots=True)
class _Done:
    """Steps done so far and how to take each back."""

    steps: list[tuple[Step, Undo]] = field(default_factory=list)

    def undo(self, failed: PlanFailed) -> None:
        while self.steps:
            step, undo = self.steps.pop()
            try:
                undo()
            except ServiceError as error:
                failed.left.append((step, error))
            else:
                failed.undone.append(step)


def carry_out(plan: Plan, tell: Callable[[Step, bool], None]) -> None:
    """Do every step that is not done; ``tell(step, skipped)`` after each. Raises PlanFailed, everything put back.

    Also an interruption (Ctrl-C) puts everything back before it goes on.
    """
    done = _Done()
    for step in plan.steps:
        try:
            if step.is_done():
                tell(step, True)
                continue
            done.steps.append((step, step.do()))
        except ServiceError as error:
            failed = PlanFailed(step, error)
            done.undo(failed)
            raise failed from error
        except BaseException as error:
            interrupted = PlanFailed(step, ServiceError("被中断", "interrupted"))
            done.undo(interrupted)
            for left, reason in interrupted.left:
                _LOG.error("could not be undone: %s: %s", left.does.en, reason.en)
            raise error
        tell(step, False)


def shown(plan: Plan) -> Iterator[str]:
    """The plan for people, line by line: each step, whether it is done already, and how it would be undone."""
    yield str(plan.title)
    for number, step in enumerate(plan.steps, 1):
        done = "   (已完成 done already)" if step.is_done() else ""
        yield f"  {number}. {step.does}{done}"
        yield f"     撤销 undo: {step.undoes}"
