"""All kills of one engine: which points there are, which deaths are tried at each, and what they showed in numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tests.chaos.books import Books
from tests.chaos.case import MODES, NEXT, RETRY, SILENCE, TWIN, Case, Kill
from tests.chaos.house_scenes import HOUSE_SCENES
from tests.chaos.invariants import Finding, Kind, judge
from tests.chaos.journal import CASE, DONE, Entry, Journal
from tests.chaos.scenes import SCENES, Scene
from tests.chaos.site import ChaosSite
from tests.chaos.trap import Point

_DURING: Final = 0.004  # most seconds between handing over a statement and the death in it
_ENOUGH: Final = 60  # points of a start or a repetition, more than any has
_ATTEMPTS: Final = 3
_WHOLE: Final = "all sessions at the end"


class Stopped(Exception):
    """The run is to end here: its time is over, or somebody ends it."""


@dataclass(slots=True)
class Row:
    """One line of the table: a command on an engine. ``is_whole``: every planned case was played."""

    command: str
    engine: str
    extent: str = ""
    points: int = 0
    cases: int = 0
    kills: int = 0
    unknown: int = 0
    is_whole: bool = False
    findings: list[tuple[str, Finding]] = field(default_factory=list)

    def count(self, kind: Kind) -> int:
        """Findings of a kind."""
        return sum(finding.kind is kind for _, finding in self.findings)

    def add(self, entry: Entry) -> None:
        """Take a line of the journal into account."""
        self.points = max(self.points, entry.points)
        self.is_whole |= entry.what == DONE
        self.cases += entry.what == CASE
        self.kills += entry.kills
        self.unknown += entry.unknown
        self.findings += [(entry.plan, finding) for finding in entry.found()]


def rows_of(entries: Iterable[Entry]) -> list[Row]:
    """The table of a journal, or of several: a line for each engine, extent and command, as they were begun; the whole
    hospital's books behind them."""
    rows: dict[tuple[str, str, str], Row] = {}
    for entry in entries:
        engine, extent, scene = entry.series
        rows.setdefault(entry.series, Row(scene, engine, extent)).add(entry)
    return sorted(rows.values(), key=lambda row: (row.engine, row.extent, row.command == _WHOLE))


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is tried. ``every``: each n-th point of a command only. ``modes``: what follows, tried at each of them in
    turn (``all_modes``: all at each). ``twice``: each n-th point of a start and of a repetition is a second death; 0:
    none. ``name``: in the table."""

    every: int = 1
    modes: Sequence[str] = MODES
    all_modes: bool = True
    twice: int = 1
    name: str = ""


FULL: Final = Extent(twice=3, name="full")
POINTS: Final = Extent(all_modes=False, twice=6, name="points")
REDUCED: Final = Extent(every=2, all_modes=False, twice=6, name="reduced")
SHORT: Final = Extent(every=12, all_modes=False, twice=0, name="short")


class Campaign:
    """Kills on one site. ``seed`` decides the moments of deaths in a statement, and where an extent begins to count: of
    each command for itself, so that the plans do not depend on which commands are played.

    ``journal``: takes what every case showed, and knows what was played before. ``check``: called before each case; raises
    Stopped to end the run.
    """

    def __init__(
        self,
        site: ChaosSite,
        extent: Extent,
        *,
        seed: int,
        scenes: Sequence[Scene] = (),
        tell: Callable[[str], None],
        journal: Journal | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._site = site
        self._extent = extent
        self._seed = seed
        self._scenes = scenes or (SCENES if site.houses is None else HOUSE_SCENES)
        self._name = site.engine if site.houses is None else f"{site.engine}+"
        self._tell = tell
        self._journal = journal if journal is not None else Journal()
        self._check = check
        self._number = 0

    def run(self) -> list[Row]:
        """Every planned case; a row for each command, and one for the whole hospital's books at the end.

        A run that is stopped has the rows of what was played, of which the last is not whole.
        """
        entries: list[Entry] = []
        try:
            for scene in self._scenes:
                self._play_scene(scene, entries)
        except Stopped:
            self._tell(f"{self._name:<11} stopped")
        end = judge(Books(self._site.reader.read([]), (), (), self._site.before))
        whole = replace(self._entry(_WHOLE, 0), what=DONE, findings=_told(end), plan=f"after case {self._number}")
        return rows_of([*entries, self._journal.note(whole)])

    def _play_scene(self, scene: Scene, entries: list[Entry]) -> None:
        done = replace(self._entry(scene.name, 0), what=DONE)
        series = _Series(self, scene, random.Random(f"{self._seed} {self._name} {scene.name}"), entries)
        self._check()
        points = self._points(scene, entries)
        if points is None:
            return
        series.run(points)
        done = replace(done, points=len(points))
        entries.append(self._journal.known(done) or self._journal.note(done))
        row = rows_of(entry for entry in entries if entry.scene == scene.name)[0]
        self._tell(f"{self._name:<11} {scene.name:<40} {row.points:>3} points {row.kills:>4} kills")

    def _points(self, scene: Scene, entries: list[Entry]) -> Sequence[Point] | None:
        """The points of a command; None: three times it did not come to its end though nothing was done to it."""
        undisturbed = replace(self._entry(scene.name, 0), plan="undisturbed")
        for attempt in range(_ATTEMPTS):
            try:
                points = Case(self._site, self.order_no(), Kill(scene, Point(0, "", ""))).dry_run()
                if self._journal.has_finding(undisturbed):
                    self._journal.note(undisturbed)
                return points
            except AssertionError as error:
                self._tell(f"{self._name} {scene.name}: undisturbed: {error}")
                if attempt == _ATTEMPTS - 1:
                    entries.append(self._failed(scene, undisturbed.plan, 0, error))
        return None

    def play(self, kill: Kill, points: int) -> Entry:
        """One case, or what the journal knows of it."""
        entry = replace(self._entry(kill.scene.name, points), plan=str(kill))
        if (before := self._journal.known(entry)) is not None:
            return before
        self._check()
        try:
            outcome = Case(self._site, self.order_no(), kill).play()
        except AssertionError as error:
            return self._failed(kill.scene, str(kill), points, error)
        entry = replace(
            entry,
            kills=outcome.kills,
            unknown=outcome.unknown,
            reached=outcome.reached,
            findings=_told(outcome.findings),
        )
        entry = self._journal.note(entry)
        for finding in outcome.findings:
            self._tell(f"!! {self._name} {kill}: {finding}")
        return entry

    def order_no(self) -> str:
        """The next order's number."""
        self._number += 1
        return f"C{self._seed % 10_000:04d}{self._site.engine[0].upper()}{self._number:05d}"

    def _failed(self, scene: Scene, plan: str, points: int, error: AssertionError) -> Entry:
        """An agent that does not start, or does not answer, is a finding as well; the next case has its own."""
        self._site.nursery.kill_all()
        finding = Finding(Kind.LOST, "plays_to_its_end", str(error) or repr(error))
        entry = replace(self._entry(scene.name, points), plan=plan, findings=_told([finding]))
        entry = self._journal.note(entry)
        self._tell(f"!! {self._name} {plan}: {finding}")
        return entry

    def _entry(self, scene: str, points: int) -> Entry:
        return Entry(CASE, self._name, self._extent.name, self._seed, scene, points)


class _Series:
    """All cases of one scene. ``chance``: its own."""

    def __init__(self, campaign: Campaign, scene: Scene, chance: random.Random, entries: list[Entry]) -> None:
        self._campaign = campaign
        self._extent = campaign._extent
        self._scene = scene
        self._chance = chance
        self._entries = entries
        self._points = 0

    def run(self, points: Sequence[Point]) -> None:
        """Play them."""
        self._points = len(points)
        for kill in self._once(points):
            self._play(kill)
        if self._extent.twice:
            for kill in self._undecided(points):
                self._twice(kill)

    def _once(self, points: Sequence[Point]) -> Iterator[Kill]:
        extent = self._extent
        start = self._chance.randrange(extent.every)
        for at, point in enumerate(points[start :: extent.every]):
            modes = extent.modes if extent.all_modes else [extent.modes[at % len(extent.modes)]]
            for mode in modes:
                yield Kill(self._scene, point, mode, self._delay())

    def _undecided(self, points: Sequence[Point]) -> list[Kill]:
        """Two deaths after which it is open what became of the command: right after it was admitted, and right after the
        HIS has it (before the ledger has)."""
        written = [point for point in points if point.label.startswith("store ")]
        if len(written) < 3:
            return []
        after_admission, before_record = written[1], written[2]
        return [Kill(self._scene, after_admission, RETRY), Kill(self._scene, before_record, RETRY)]

    def _twice(self, kill: Kill) -> None:
        """The same death, followed by one at each point of the start, and by one at each point of the repetition."""
        step = self._extent.twice
        for number in range(self._chance.randint(1, step), _ENOUGH, step):
            mode = (RETRY, SILENCE, TWIN, NEXT)[number % 4]
            if not self._play(Kill(kill.scene, kill.point, mode, recovery=number)).reached:
                break
        for number in range(self._chance.randint(1, step), _ENOUGH, step):
            if not self._play(Kill(kill.scene, kill.point, RETRY, self._delay(), again=number)).reached:
                break

    def _play(self, kill: Kill) -> Entry:
        entry = self._campaign.play(kill, self._points)
        self._entries.append(entry)
        return entry

    def _delay(self) -> float:
        return self._chance.uniform(0, _DURING)


def _told(findings: Iterable[Finding]) -> tuple[tuple[str, str, str], ...]:
    return tuple((finding.kind.value, finding.invariant, finding.text) for finding in findings)
