"""`[[test]]` of mapping files, run without a database: the compiled mapping against a session that the file scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from google.protobuf.message import Message
from his160.v1 import event_pb2, reason_pb2

from his_db.compiled_watch import CompiledWatch
from his_db.document.finding import Words
from his_db.document.located import Path
from his_db.document.problem import Problem, Problems
from his_db.engine import Session
from his_db.errors import HisError, HisRefused
from his_db.generation import Generation, compile_generation
from his_db.mapping.check_tests import NO_EVENT
from his_db.mapping.finding import Reporter
from his_db.mapping.model import MappingSet, OperationMapping, TrialSpec, WatchMapping
from his_db.mapping.trial_session import ScriptedSession
from his_db.mapping.trial_values import flat, put, read, request_path, same, shown
from his_db.secret_reference import without_secrets

_NOW: Final = datetime(2026, 3, 2, 9, 30)  # noqa: DTZ001 - the hospital's wall clock, a Monday morning
_KEY: Final = "test"


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """One `[[test]]`. `mapping` is the name of its operation or watch; no problem means that it passed."""

    __test__: ClassVar[bool] = False  # pytest: not a test itself

    file: str
    mapping: str
    name: str
    problems: tuple[Problem, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether everything came out as expected."""
        return not self.problems


def run_tests(mapping_set: MappingSet, generation: Generation | None = None) -> list[TestOutcome]:
    """Every test of the set, by file and place. `generation`: the set compiled, where the caller has it already."""
    compiled = compile_generation(mapping_set) if generation is None else generation
    found = [
        _operation_test(test, mapping, mapping_set, compiled)
        for mapping in mapping_set.operations.values()
        for test in mapping.tests
    ]
    for name, watch in mapping_set.watches.items():
        found += [_watch_test(test, watch, compiled.watches[name]) for test in watch.tests]
    return sorted(found, key=lambda outcome: outcome.file)


@dataclass(slots=True)
class _Trial:
    """One running test: where it is written, and what is wrong so far."""

    test: TrialSpec
    report: Reporter
    zone: ZoneInfo

    def wrong(self, path: Path, expected: Any, found: Any) -> None:
        message = Words(
            f"expected {shown(expected)}, found {shown(found)}", f"应为 {shown(expected)}，实际为 {shown(found)}"
        )
        self.report.value("H239", (*self.test.path, *path), message)

    def raised(self, error: HisError) -> None:
        detail = error.detail
        message = Words(f"the call failed: {reason_name(error)}: {detail}", f"调用失败：{reason_name(error)}：{detail}")
        self.report.value("H239", (*self.test.path, "name"), message)

    def compare(self, message: Message, expect: Iterable[tuple[str, Any]], table: Mapping[str, Any]) -> None:
        for name, value in expect:
            found = read(message, name, self.zone)
            if not same(value, found, self.zone):
                self.wrong(("expect", *((name,) if name in table else name.split("."))), value, found)


def reason_name(error: HisError) -> str:
    """Short name of an error's reason."""
    return reason_pb2.Reason.Name(error.reason).removeprefix("REASON_")


def _operation_test(
    test: TrialSpec, mapping: OperationMapping, mapping_set: MappingSet, generation: Generation
) -> TestOutcome:
    zone = ZoneInfo(mapping.site.timezone)
    problems = Problems()
    trial = _Trial(test, Reporter(mapping.document, problems), zone)
    name = mapping.operation.name
    request = mapping.operation.request_class()
    for key, value in flat(test.values.get("given", {})):
        path = request_path(mapping.operation.request, key)
        assert path is not None  # checked when the set was loaded
        put(request, path, value, zone)
    answers = [mapping_set.operations[spec.read] for spec in mapping.answers]
    session = ScriptedSession(test, mapping, answers)
    expect = test.values["expect"]
    try:
        with without_secrets():
            response = generation.operation(name).run(_as_session(session), request, now=_now(test), key=_KEY)
    except HisError as error:
        if "reason" not in expect:
            trial.raised(error)
        elif expect["reason"] != reason_name(error):
            trial.wrong(("expect", "reason"), expect["reason"], reason_name(error))
        elif "text" in expect and (not isinstance(error, HisRefused) or error.text != expect["text"]):
            trial.wrong(("expect", "text"), expect["text"], getattr(error, "text", None))
    else:
        if "reason" in expect:
            trial.wrong(("expect", "reason"), expect["reason"], response)
        else:
            trial.compare(response, flat(expect), expect)
    _check_sent(trial, session)
    return TestOutcome(mapping.document.file, name, test.name, problems.sorted())


def _as_session(session: ScriptedSession) -> Session:
    return session


def _now(test: TrialSpec) -> datetime:
    given = test.values.get("now", _NOW)
    return given if isinstance(given, datetime) else datetime.fromisoformat(str(given))


def _check_sent(trial: _Trial, session: ScriptedSession) -> None:
    """`sends`: the binds of the first statement that has one of the name."""
    for name, value in trial.test.values.get("sends", {}).items():
        wanted = name.casefold().lstrip("@:")
        binds = ({key.casefold().lstrip("@:"): item for key, item in sent.items()} for sent in session.sent)
        found = next((sent for sent in binds if wanted in sent), None)
        if found is None:
            trial.wrong(("sends", name), value, "no such bind")
        elif not same(value, found[wanted], trial.zone):
            trial.wrong(("sends", name), value, found[wanted])


def _watch_test(test: TrialSpec, watch: WatchMapping, compiled: CompiledWatch) -> TestOutcome:
    zone = ZoneInfo(watch.site.timezone)
    problems = Problems()
    trial = _Trial(test, Reporter(watch.document, problems), zone)
    expect = test.values["expect"]
    try:
        before, after = (_row(test.values.get(key), compiled) for key in ("before", "after"))
    except HisError as error:
        trial.raised(error)
        return TestOutcome(watch.document.file, watch.name, test.name, problems.sorted())
    rule = next((rule for rule in compiled.rules if rule.matches(before, after)), None)
    kind = NO_EVENT if rule is None else event_pb2.EventKind.Name(rule.kind).removeprefix("EVENT_KIND_")
    if kind != expect["event"]:
        trial.wrong(("expect", "event"), expect["event"], kind)
    message = after if after is not None else before
    rest = {name: value for name, value in expect.items() if name not in {"event", "occurred"}}
    if message is not None:
        trial.compare(message, flat(rest), expect)
    if "occurred" in expect:
        found = None
        if rule is not None and rule.occurred is not None and message is not None:
            found = read(message, rule.occurred, zone)
        if not same(expect["occurred"], found, zone):
            trial.wrong(("expect", "occurred"), expect["occurred"], found)
    return TestOutcome(watch.document.file, watch.name, test.name, problems.sorted())


def _row(table: Mapping[str, Any] | None, watch: CompiledWatch) -> Message | None:
    """The message of a row of a test; None where there is no row (it is new, or gone)."""
    if table is None:
        return None
    folded = {name.casefold(): value for name, value in table.items()}
    return watch.build(tuple(folded.get(name) for name in watch.plan.columns))
