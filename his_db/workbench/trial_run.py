"""One operation tried on the live database: `preview` runs a read, `rehearse` runs a write and undoes it.

The call goes through the same lanes as the relay's, so that the error is the one that the relay would be told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.message import Message

from his_db.access import HisAccess
from his_db.catalogue.reader import READERS, reader_for
from his_db.contract import ContractOperation, operation
from his_db.errors import HisError, OperationNotMapped
from his_db.generation import Generation, compile_generation
from his_db.mapping.model import MappingSet, OperationMapping
from his_db.source import LaneSettings, Source, engine_for
from his_db.workbench.masking import Masker, without_personal
from his_db.workbench.recording import Record, RecordingEngine, Step
from his_db.workbench.site import Site

SHOWN_ROWS: Final = 20
_ONE: Final = LaneSettings(workers=1, queue_limit=10)
_KEY: Final = "his160-rehearsal"


class TrialRefused(Exception):
    """The operation cannot be tried this way; both sentences say why."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.en = en
        self.zh = zh


@dataclass(frozen=True, slots=True)
class ShownRows:
    """A result set with its personal values masked; `more`: rows that are not shown."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int
    changed: int


@dataclass(frozen=True, slots=True)
class ShownStep:
    """A statement as it was sent, masked."""

    sql: str
    binds: dict[str, str]
    sets: tuple[ShownRows, ...]
    out: dict[str, str]
    milliseconds: float
    error: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What happened. `message`: the answer, personal fields masked; `error`: what the relay would be told of.

    `committed`: a rehearsed procedure committed by itself (True), did not (False), cannot be told or not asked (None).
    `evidence`: how it was found out.
    """

    operation: str
    steps: tuple[ShownStep, ...]
    message: dict[str, Any] | None
    error: HisError | None
    milliseconds: float
    committed: bool | None = None
    evidence: tuple[str, ...] = field(default=())


def preview(site: Site, mapping_set: MappingSet, name: str, request: Message) -> Trial:
    """Run a reading operation. Raises TrialRefused for one that writes or is not mapped."""
    mapping = _mapping(mapping_set, name)
    if not mapping.operation.is_read:
        raise TrialRefused(f"{name} writes: use rehearse", f"{name} 是写操作，请用 rehearse 演练")
    generation = compile_generation(mapping_set)
    return asyncio.run(_preview(site, generation, mapping, request))


def rehearse(site: Site, mapping_set: MappingSet, name: str, request: Message) -> Trial:
    """Run a writing operation in a transaction and roll it back.

    Raises TrialRefused for one that reads, or whose mapping says that the procedure commits by itself.
    """
    mapping = _mapping(mapping_set, name)
    if mapping.operation.is_read:
        raise TrialRefused(f"{name} reads: use preview", f"{name} 是查询操作，请用 preview")
    if mapping.engine not in READERS:
        raise TrialRefused(
            f"{name} goes to {mapping.engine or 'an interface'}: what it did could not be rolled back",
            f"{name} 调用的是外部接口，无法回滚，不能演练",
        )
    if mapping.values.get("commits") == "procedure":
        raise TrialRefused(
            f"{name}: the mapping says that the procedure commits by itself; a rehearsal would stay",
            f'{name}：映射注明该过程自行提交（commits = "procedure"），演练无法撤销，已拒绝',
        )
    reads = [mapping_set.operations[answer.read] for answer in mapping.answers if answer.read in mapping_set.operations]
    return asyncio.run(_rehearse(site, compile_generation(mapping_set), mapping, request, reads))


def _mapping(mapping_set: MappingSet, name: str) -> OperationMapping:
    mapping = mapping_set.operations.get(name)
    if mapping is None:
        raise TrialRefused(f"{name} is not mapped here", f"这套映射中没有 {name}")
    if mapping.kind == "unsupported":
        raise TrialRefused(f"{name} is mapped as unsupported", f"{name} 标记为不支持")
    return mapping


def _source(site: Site, mapping: OperationMapping, record: Record, *, rehearses: bool) -> Source:
    settings = site.sources[mapping.source]
    savepoint = reader_for(settings.engine).savepoint() if rehearses else None
    engine = RecordingEngine(engine_for(settings), record, savepoint)
    return Source(settings, {"read": _ONE, "write": _ONE}, engine=engine)


async def _preview(site: Site, generation: Generation, mapping: OperationMapping, request: Message) -> Trial:
    record = Record()
    source = _source(site, mapping, record, rehearses=False)
    access = HisAccess({mapping.source: source}, generation, clock=site.clock)
    began = time.perf_counter()
    try:
        answer, error = await _asked(access.read(mapping.operation.name, request))
    finally:
        await source.close()
    return _trial(mapping, record, answer, error, began)


async def _rehearse(
    site: Site,
    generation: Generation,
    mapping: OperationMapping,
    request: Message,
    reads: Sequence[OperationMapping],
) -> Trial:
    record = Record()
    source = _source(site, mapping, record, rehearses=True)
    witness = Source(site.sources[mapping.source], {"read": _ONE})
    probes = _probes(generation, mapping, request)
    try:
        looker = HisAccess({mapping.source: witness}, generation, clock=site.clock)
        before = [await _seen(looker, probe, asked) for probe, asked in probes]
        access = HisAccess({mapping.source: source}, generation, clock=site.clock)
        began = time.perf_counter()
        key = getattr(request, "request_id", "") or _KEY
        answer, error = await _asked(access.write(mapping.operation.name, request, key=key))
        after = [await _seen(looker, probe, asked) for probe, asked in probes]
    finally:
        await source.close()
        await witness.close()
    changed = [probe.name for (probe, _), one, two in zip(probes, before, after, strict=True) if one != two]
    trial = _trial(mapping, record, answer, error, began, reads=reads)
    evidence = _evidence(record, changed, len(probes))
    committed = record.committed
    if changed:
        committed = True
    elif record.committed and error is not None:
        committed = None  # a refusal that ended the transaction itself has more likely rolled back
    return Trial(
        trial.operation, trial.steps, trial.message, trial.error, trial.milliseconds, committed, tuple(evidence)
    )


def _evidence(record: Record, changed: Sequence[str], asked: int) -> list[str]:
    found: list[str] = []
    if record.committed:
        found.append("savepoint gone: the transaction was ended inside / 保存点已失效：事务在过程内部被提交或回滚")
    if changed:
        names = ", ".join(changed)
        found.append(f"a second session sees a change by {names} / 另一会话通过 {names} 看到了变化")
    elif asked:
        found.append("a second session sees no change / 另一会话没有看到变化")
    if record.refused_commit:
        found.append(
            'the procedure tried to COMMIT and was not allowed to: commits = "procedure" / '
            '过程试图自行 COMMIT 被数据库拒绝：请写 commits = "procedure"'
        )
    return found


async def _asked(call: Any) -> tuple[Message | None, HisError | None]:
    try:
        return await call, None
    except HisError as error:
        return None, error


def _probes(
    generation: Generation, mapping: OperationMapping, request: Message
) -> list[tuple[ContractOperation, Message]]:
    """The reads that can see what the write does: its probe and its answers, asked with the keys that they share."""
    names = dict.fromkeys([mapping.probe, *(answer.read for answer in mapping.answers)])
    found: list[tuple[ContractOperation, Message]] = []
    for name in names:
        if not name or name not in generation.operations or generation.operations[name].source != mapping.source:
            continue
        about = operation(name)
        asked = about.request_class()
        for own in about.request.fields:
            theirs = request.DESCRIPTOR.fields_by_name.get(own.name)
            if theirs is not None and own.message_type is None and theirs.type == own.type and not own.is_repeated:
                setattr(asked, own.name, getattr(request, own.name))
        found.append((about, asked))
    return found


async def _seen(access: HisAccess, about: ContractOperation, request: Message) -> bytes | str:
    try:
        return (await access.read(about.name, request)).SerializeToString(deterministic=True)
    except OperationNotMapped:
        return ""
    except HisError as error:
        return str(error.reason)


def _trial(
    mapping: OperationMapping,
    record: Record,
    answer: Message | None,
    error: HisError | None,
    began: float,
    *,
    reads: Sequence[OperationMapping] = (),
) -> Trial:
    masker = Masker(mapping, *reads)
    return Trial(
        operation=mapping.operation.name,
        steps=tuple(shown_step(step, masker) for step in record.steps),
        message=None if answer is None else without_personal(answer),
        error=error,
        milliseconds=(time.perf_counter() - began) * 1000,
    )


def shown_step(step: Step, masker: Masker) -> ShownStep:
    """A statement as people may see it."""
    return ShownStep(
        sql=step.sql.strip(),
        binds={name: masker.bind(name, value) for name, value in step.values.items()},
        sets=tuple(
            ShownRows(
                columns=rows.columns,
                rows=tuple(
                    tuple(masker.column(name, value) for name, value in zip(rows.columns, row, strict=True))
                    for row in rows.rows[:SHOWN_ROWS]
                ),
                more=max(0, len(rows.rows) - SHOWN_ROWS),
                changed=rows.changed,
            )
            for rows in step.sets
            if rows.columns or rows.changed >= 0
        ),
        out={name: masker.column(name, value) for name, value in step.out.items()},
        milliseconds=step.milliseconds,
        error=step.error,
    )
