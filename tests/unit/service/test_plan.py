"""A plan is data: shown first, done step by step, skipped where done, put back whole when a step fails."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from service_install.plan import Plan, PlanFailed, ServiceError, Step, Undo, Words, carry_out, shown


@dataclass(slots=True)
class Put:
    """Puts a word into a box."""

    box: set[str]
    word: str
    refuses: BaseException | None = None
    stuck: bool = False
    log: list[str] = field(default_factory=list)

    @property
    def does(self) -> Words:
        return Words(f"放 {self.word}", f"put {self.word}")

    @property
    def undoes(self) -> Words:
        return Words(f"取 {self.word}", f"take {self.word}")

    def is_done(self) -> bool:
        return self.word in self.box

    def do(self) -> Undo:
        if self.refuses is not None:
            raise self.refuses
        self.box.add(self.word)

        def undo() -> None:
            if self.stuck:
                raise ServiceError("卡住", "stuck")
            self.box.remove(self.word)
            self.log.append(self.word)

        return undo


def plan(*steps: Step) -> Plan:
    return Plan(Words("计划", "plan"), steps)


def test_it_is_done_once() -> None:
    box: set[str] = set()
    told: list[tuple[str, bool]] = []
    steps = plan(Put(box, "a"), Put(box, "b"))
    for expected in (False, True):
        carry_out(steps, lambda step, skipped: told.append((step.does.en, skipped)))
        assert told == [("put a", expected), ("put b", expected)]
        told.clear()
    assert box == {"a", "b"}


@pytest.mark.parametrize("length", range(4))
def test_a_failure_puts_every_prefix_back_in_reverse(length: int) -> None:
    box, log = {"there before"}, list[str]()
    steps = [Put(box, str(number), log=log) for number in range(length)]
    with pytest.raises(PlanFailed) as caught:
        carry_out(plan(*steps, Put(box, "bad", refuses=ServiceError("不行", "no"))), lambda *_: None)
    assert box == {"there before"}
    assert log == [str(number) for number in reversed(range(length))]
    assert [step.does.en for step in caught.value.undone] == [f"put {number}" for number in reversed(range(length))]
    assert caught.value.error.en == "no"


def test_what_was_there_before_is_not_taken_away() -> None:
    box = {"a"}
    with pytest.raises(PlanFailed):
        carry_out(plan(Put(box, "a"), Put(box, "b", refuses=ServiceError("不行", "no"))), lambda *_: None)
    assert box == {"a"}


def test_an_undo_that_fails_does_not_stop_the_others() -> None:
    box: set[str] = set()
    with pytest.raises(PlanFailed) as caught:
        bad = Put(box, "c", refuses=ServiceError("不行", "no"))
        carry_out(plan(Put(box, "a"), Put(box, "b", stuck=True), bad), lambda *_: None)
    assert box == {"b"}
    assert [(step.does.en, error.en) for step, error in caught.value.left] == [("put b", "stuck")]


def test_an_interruption_puts_back_too() -> None:
    box: set[str] = set()
    with pytest.raises(KeyboardInterrupt):
        carry_out(plan(Put(box, "a"), Put(box, "b", refuses=KeyboardInterrupt())), lambda *_: None)
    assert box == set()


def test_it_can_be_shown_and_nothing_changes() -> None:
    box = {"a"}
    lines = list(shown(plan(Put(box, "a"), Put(box, "b"))))
    assert lines == [
        "计划 / plan",
        "  1. 放 a / put a   (已完成 done already)",
        "     撤销 undo: 取 a / take a",
        "  2. 放 b / put b",
        "     撤销 undo: 取 b / take b",
    ]
    assert box == {"a"}
