"""What the files of a mapping set say, as records: made after the shape check, read by checks and kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time, timedelta
from typing import TYPE_CHECKING, Any, Final

from his_db.contract import ContractOperation
from his_db.document.located import Document, Path
from his_db.feed import FeedSpec
from his_db.mapping.tally import Tally

if TYPE_CHECKING:  # the port knows the reporter, which knows nothing of records
    from his_db.gateway import OpenedGateway

REFUSE = "refuse"
UNREAD = "\0"
"""Stands for the text of a file that cannot be read: it is there, and nobody knows what it says."""
FILE: Final = "file"
"""What stands for an engine where the source is a folder for dropped files."""


@dataclass(frozen=True, slots=True)
class Transform:
    """How a value changes on its way into the HIS. Empty: it does not."""

    moment: str = ""  # format of date, time or datetime
    money: str = ""  # "yuan" | "fen"
    codes: str = ""
    case: str = ""  # "upper" | "lower"
    pad: int = 0
    max_bytes: int = 0
    max_chars: int = 0
    cuts: bool = False
    charset: str = "utf-8"
    number: bool = False
    digits: bool = False
    split: str = ""
    part: int | None = None
    read: str = ""  # format of the text, where a date or time in it is written in another one
    keeps_empty: bool = False


@dataclass(frozen=True, slots=True)
class Param:
    """One entry of `params`, or of `where` of a table. Exactly one of source, const, step holds."""

    name: str
    path: Path
    source: str = ""
    const: Any = None
    step: str = ""
    transform: Transform = Transform()
    direction: str = "in"
    type: str = ""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One entry of `fields`."""

    to: str
    path: Path
    column: str = ""
    const: Any = None
    trim: bool = True
    money: str = ""
    formats: tuple[str, ...] = ()
    date_formats: tuple[str, ...] = ()
    time_formats: tuple[str, ...] = ()
    date_column: str = ""
    time_column: str = ""
    codes: str = ""
    true: tuple[Any, ...] | None = None
    empty: tuple[Any, ...] = ()
    default: Any = None
    contains: tuple[tuple[str, Any], ...] = ()
    charset: str = ""

    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        return tuple(name for name in (self.column, self.date_column, self.time_column) if name)


@dataclass(frozen=True, slots=True)
class SegmentsSpec:
    """`[segments]`: a session row becomes several slots. Counts are a column (text) or a number; None: not said."""

    path: Path
    begin: str
    end: str
    formats: tuple[str, ...]
    minutes: str | int | None
    count: str | int | None
    each: str | int | None
    total: str | int | None
    taken: str
    taken_count: str
    used: str

    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        counts = (item for item in (self.minutes, self.count, self.each, self.total) if isinstance(item, str))
        named = (self.begin, self.end, *counts, self.taken, self.taken_count, self.used)
        return tuple(dict.fromkeys(name for name in named if name))


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """One `[[test]]`, as the shape check returned it."""

    name: str
    path: Path
    values: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ResultSpec:
    """One `[[result]]`. `into` is empty for the response itself; `rows` is one, many or optional;
    `set` the number of a result set, or the name of a REF CURSOR parameter."""

    path: Path
    into: str
    rows: str
    not_found: str
    page_key: str
    set: int | str | None
    fields: tuple[FieldSpec, ...]
    at: str = ""  # http: path of the rows in the reply
    segments: SegmentsSpec | None = None

    def columns(self) -> tuple[str, ...]:
        """The columns it reads, each once, those of segments and the page key included."""
        found = [column for spec in self.fields for column in spec.columns()]
        found += self.segments.columns() if self.segments is not None else ()
        return tuple(dict.fromkeys([*found, self.page_key] if self.page_key else found))


@dataclass(frozen=True, slots=True)
class CodePair:
    """One line of a code map. Both sides as the file has them."""

    his: Any
    value: Any
    back: bool
    path: Path


@dataclass(frozen=True, slots=True)
class CodeMap:
    """A code map: HIS -> contract and back. `otherwise` is None where an unknown code is refused."""

    name: str
    document: Document = field(repr=False)
    pairs: tuple[CodePair, ...]
    otherwise: Any
    otherwise_back: Any


@dataclass(frozen=True, slots=True)
class AnswerSpec:
    """A read that runs after the write, inside its transaction; its message goes into field `to`."""

    read: str
    to: str
    path: Path


@dataclass(frozen=True, slots=True)
class Site:
    """What the files of a set share: engines by source, the hospital's zone, code maps, SQL files by their path."""

    sources: Mapping[str, str]
    timezone: str
    codes: Mapping[str, CodeMap]
    sql_files: Mapping[str, str]
    gateways: dict[str, OpenedGateway] = field(default_factory=dict, compare=False, repr=False)
    """The gateways of the set, by name, once they are opened: the operations of a file share one."""


@dataclass(frozen=True, slots=True)
class OperationMapping:
    """One operation file. `values` is what the shape check returned, for the keys that only its kind knows."""

    operation: ContractOperation
    document: Document = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)
    kind: str
    source: str
    timeout: timedelta | None
    lock: timedelta
    note: str
    probe: str
    answers: tuple[AnswerSpec, ...]
    params: tuple[Param, ...]
    results: tuple[ResultSpec, ...]
    site: Site = field(repr=False)
    tests: tuple[TrialSpec, ...] = ()
    tally: Tally = field(default_factory=Tally, compare=False, repr=False)

    @property
    def engine(self) -> str:
        """Name of the engine of its source; empty when the source does not exist."""
        return self.site.sources.get(self.source, "")

    def sql(self, table: Mapping[str, Any]) -> str:
        """The SQL of a table that has `sql` or `sql_file`; empty when it has neither."""
        return sql_of(table, self.document, self.site.sql_files)


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One `[[event]]` of a watch."""

    kind: str
    when: str
    occurred: str
    path: Path


@dataclass(frozen=True, slots=True)
class WatchFeed:
    """One `[[feed]]` of a watch."""

    spec: FeedSpec
    path: Path


@dataclass(frozen=True, slots=True)
class WatchMapping:
    """One watch file. `window` is (past days, future days), or None for a watch without one."""

    name: str
    document: Document = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)
    subject: str
    source: str
    poll: timedelta | None
    window: tuple[int, int] | None
    key: str
    platform_operators: frozenset[str]
    vanish: str
    params: tuple[Param, ...]
    result: ResultSpec
    events: tuple[EventSpec, ...]
    site: Site = field(repr=False)
    tests: tuple[TrialSpec, ...] = ()
    tally: Tally = field(default_factory=Tally, compare=False, repr=False)
    feeds: tuple[WatchFeed, ...] = ()
    reconcile: timedelta = timedelta(seconds=30)
    orders: timedelta = timedelta(seconds=10)
    wake: str = ""

    @property
    def engine(self) -> str:
        """Name of the engine of its source; empty when the source does not exist."""
        return self.site.sources.get(self.source, "")

    def sql(self) -> str:
        """Its SELECT."""
        return sql_of(self.values, self.document, self.site.sql_files)


@dataclass(frozen=True, slots=True)
class ReportColumnSpec:
    """One column of a report. `kind` is text, count, fen, date, time or percent; `field` says how it is read.

    `total`: its sum means something. `rate`: the two columns whose sums give the share over all rows. `mask`: name,
    document or phone; most of the text is starred before it leaves this room.
    """

    name: str
    title: str
    kind: str
    field: FieldSpec
    total: bool = False
    rate: tuple[str, ...] = ()
    mask: str = ""


@dataclass(frozen=True, slots=True)
class ReportMapping:
    """`[report.<name>]`: a SELECT (`sql` or `sql_file`) or a procedure (`object`); `schedule` is cron text or empty.

    `quiet_hours` are (begin, end) on the hospital's wall clock; end before begin goes over midnight.
    """

    name: str
    path: Path
    document: Document = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)
    title: str
    source: str
    object: str
    function: bool
    params: tuple[Param, ...]
    columns: tuple[ReportColumnSpec, ...]
    schedule: str
    quiet_hours: tuple[tuple[time, time], ...]
    timeout: timedelta | None
    max_rows: int
    site: Site = field(repr=False)

    @property
    def engine(self) -> str:
        """Name of the engine of its source; empty when the source does not exist."""
        return self.site.sources.get(self.source, "")

    def sql(self) -> str:
        """Its SELECT; empty for a procedure."""
        return sql_of(self.values, self.document, self.site.sql_files)


@dataclass(frozen=True, slots=True)
class MappingSet:
    """A folder of mapping files without an error. `revision` is a hash over all of them; `warnings` are texts."""

    revision: str
    operations: Mapping[str, OperationMapping]
    watches: Mapping[str, WatchMapping]
    site: Site
    warnings: Sequence[Any] = ()
    reports: Mapping[str, ReportMapping] = field(default_factory=dict)
    digests: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """SHA-256 of each file, by its path in the folder."""


def sql_path(table: Mapping[str, Any], document: Document) -> str:
    """Path of the `sql_file` of a table within the mapping folder, with `/`; empty when it has none or it leaves it."""
    name = table.get("sql_file", "")
    if not name:
        return ""
    if name.startswith(("/", "\\")) or ":" in name:
        return ""
    parts: list[str] = document.file.replace("\\", "/").split("/")[:-1]
    for part in name.replace("\\", "/").split("/"):
        if part == "..":
            if not parts:
                return ""
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def sql_of(table: Mapping[str, Any], document: Document, files: Mapping[str, str]) -> str:
    """The SQL of a table: inline, or from its file."""
    inline: str = table.get("sql", "")
    return inline or files.get(sql_path(table, document), "")
