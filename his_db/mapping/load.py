"""A folder of mapping files -> a checked mapping set, or every problem that all of them have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from his_db import contract, registry
from his_db.document import encoding
from his_db.document.finding import Words
from his_db.document.located import Document, parse_document
from his_db.document.located import Path as KeyPath
from his_db.document.problem import DocumentError, Place, Problem, Problems
from his_db.document.shape import TableOf, check_shape
from his_db.kind import Kind
from his_db.mapping import grammar, national_codes
from his_db.mapping.check_codes import check_map
from his_db.mapping.check_operation import check_among, check_operation, check_source
from his_db.mapping.check_report import check_report
from his_db.mapping.check_watch import check_watch
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.model import CodeMap, MappingSet, OperationMapping, ReportMapping, Site, WatchMapping
from his_db.mapping.read import codes_of, operation_of, report_of, watch_of
from his_db.mapping.tally import Tally

__all__ = ["MappingSet", "load_mapping_set"]

_SUFFIXES: Final = frozenset({".toml", ".sql"})
_MAX_BYTES: Final = 1_000_000


def load_mapping_set(folder: Path, *, sources: Mapping[str, str], timezone: str) -> MappingSet:
    """The mapping set in `folder`. `sources`: name of each [source.<name>] of config.toml -> name of its engine.

    `timezone` is the hospital's (IANA). Files whose name begins with `.` or `_`, and all but `.toml` and `.sql`, are no
    part of the set. Warnings are kept in the result. Raises DocumentError with the problems of all files.
    """
    loader = _Loader(dict(sources), timezone)
    loader.read(folder)
    loader.check()
    if loader.problems:
        raise DocumentError(loader.problems)
    return MappingSet(
        revision=loader.revision(),
        operations=dict(sorted(loader.operations.items())),
        watches=dict(sorted(loader.watches.items())),
        site=loader.site,
        warnings=loader.problems.warnings,
        reports=dict(sorted(loader.reports.items())),
    )


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Path within the folder, with `/`, and the file; in the order of the names."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith((".", "_")) for part in name.parts)
        if path.suffix.lower() in _SUFFIXES and not hidden and path.is_file():
            yield name.as_posix(), path


@dataclass(slots=True)
class _Loader:
    """One run: files first, then code maps, then what uses them, then what only the whole set shows."""

    sources: Mapping[str, str]
    timezone: str
    problems: Problems = field(default_factory=Problems)
    operations: dict[str, OperationMapping] = field(default_factory=dict)
    watches: dict[str, WatchMapping] = field(default_factory=dict)
    codes: dict[str, CodeMap] = field(default_factory=dict)
    documents: list[Document] = field(default_factory=list)
    sql_files: dict[str, str] = field(default_factory=dict)
    reports: dict[str, ReportMapping] = field(default_factory=dict)
    _tally: Tally = field(default_factory=Tally)
    _digests: list[tuple[str, bytes]] = field(default_factory=list)
    _broken: set[str] = field(default_factory=set)

    @property
    def site(self) -> Site:
        return Site(self.sources, self.timezone, self.codes, self.sql_files, self._tally)

    def revision(self) -> str:
        """16 hex digits over the names and bytes of all files."""
        found = hashlib.sha256()
        for name, digest in self._digests:
            found.update(name.encode() + b"\0" + digest)
        return found.hexdigest()[:16]

    def read(self, folder: Path) -> None:
        """All files of the folder."""
        if not folder.is_dir():
            self._fault(str(folder), "H100", Words("the mapping folder does not exist", "映射文件夹不存在"))
            return
        for name, path in _files(folder):
            try:
                raw = path.read_bytes()
            except OSError as error:
                why = error.strerror or type(error).__name__
                self._fault(name, "H100", Words(f"the file cannot be read: {why}", f"无法读取文件：{why}"))
                continue
            if len(raw) > _MAX_BYTES:
                self._fault(name, "H100", Words("the file is larger than 1 MB", "文件大于 1 MB"))
                continue
            self._digests.append((name, hashlib.sha256(raw).digest()))
            try:
                if name.lower().endswith(".sql"):
                    self.sql_files[name] = encoding.decode(raw, name)
                else:
                    self.documents.append(parse_document(raw, name))
            except DocumentError as error:
                self.problems.extend(error.problems)

    def _fault(self, name: str, code: str, words: Words) -> None:
        self.problems.add(Problem(Place(name, 1, 1), code, words.en, words.zh))

    def check(self) -> None:
        """Everything, as far as each file allows."""
        others = [document for document in self.documents if "codes" not in document.data]
        for document in self.documents:
            if "codes" in document.data:
                self._codes(document)
        for at, text in enumerate(national_codes.TEXTS):
            document = parse_document(text, f"(national codes {at + 1})")
            codes = codes_of(document, check_shape(document, grammar.CODES_FILE, Problems()))
            self.codes.setdefault(codes.name, codes)
        # Codes first: whether a code map exists can be said only when all of them are read.
        for document in others:
            if "operation" in document.data:
                self._operation(document)
            elif "watch" in document.data:
                self._watch(document)
            elif "report" in document.data:
                self._reports(document)
            else:
                message = Words(
                    "neither operation, watch, report nor codes is written here",
                    "文件中没有 operation、watch、report 或 codes",
                )
                Reporter(document, self.problems).key("H206", (), message, did_you_mean("operation", ["operation"]))
        known = self.operations
        for name, mapping in known.items():
            if name not in self._broken:
                check_among(mapping, known, Reporter(mapping.document, self.problems))

    def _shape(self, document: Document, shape: TableOf) -> tuple[dict[str, Any], bool]:
        """The checked values, and whether the shape is right."""
        found = Problems()
        values = check_shape(document, shape, found)
        self.problems.extend(found)
        version = document.data.get("schema")
        if isinstance(version, int) and version != grammar.SCHEMA:
            message = Words(f"schema {version} is not known to this version", f"本版本不支持 schema {version}")
            fix = Words(f"schema = {grammar.SCHEMA}", f"schema = {grammar.SCHEMA}")
            Reporter(document, self.problems).value("H200", ("schema",), message, fix)
        return values, not found

    def _codes(self, document: Document) -> None:
        values, is_right = self._shape(document, grammar.CODES_FILE)
        name = values.get("codes")
        if name is None:
            return
        codes = codes_of(document, values)
        report = Reporter(document, self.problems)
        if name in self.codes:
            self._twice(name, "codes", self.codes[name].document, report)
            return
        self.codes[name] = codes
        if is_right:
            check_map(codes, report)

    def _operation(self, document: Document) -> None:
        report = Reporter(document, self.problems)
        kind = self._kind(document, report)
        shape = grammar.ANY_OPERATION if kind is None else TableOf({**grammar.OPERATION_KEYS, **kind.keys()})
        values, is_right = self._shape(document, shape)
        name = values.get("operation")
        if name is None:
            return
        names = contract.mappable_names()
        if name not in names:
            self._unknown_operation(name, names, report)
            return
        if name in self.operations:
            self._twice(name, "operation", self.operations[name].document, report)
            return
        mapping = operation_of(document, values, contract.operation(name), self.site)
        self.operations[name] = mapping
        if is_right and kind is not None:
            check_operation(mapping, kind, report)
        else:
            self._broken.add(name)

    def _unknown_operation(self, name: str, names: tuple[str, ...], report: Reporter) -> None:
        if name in contract.operation_names():
            message = Words(f"{name} is answered by the agent itself", f"{name} 由代理程序自己应答，不需要映射")
            report.value("H201", ("operation",), message, Words("delete this file", "删除本文件"))
            return
        message = Words(f'the contract has no operation "{name}"', f"标准中没有操作 “{name}”")
        report.value("H201", ("operation",), message, did_you_mean(name, names))

    def _kind(self, document: Document, report: Reporter) -> Kind | None:
        name = document.data.get("kind")
        if not isinstance(name, str):
            return None  # the shape says what is the matter
        entry = registry.KINDS.get(name)
        if entry is None:
            kinds = ", ".join(registry.KINDS)
            message = Words(f'there is no kind "{name}"; there are {kinds}', f"没有 kind “{name}”；可用的有 {kinds}")
            report.value("H123", ("kind",), message, did_you_mean(name, registry.KINDS))
            return None
        kind: Kind = registry.load(entry)()
        return kind

    def _watch(self, document: Document) -> None:
        values, is_right = self._shape(document, grammar.WATCH_FILE)
        name = values.get("watch")
        if name is None:
            return
        report = Reporter(document, self.problems)
        if name in self.watches:
            self._twice(name, "watch", self.watches[name].document, report)
            return
        watch = watch_of(document, values, self.site)
        self.watches[name] = watch
        if is_right:
            check_source(watch.source, self.sources, report)
            check_watch(watch, report)

    def _reports(self, document: Document) -> None:
        values, is_right = self._shape(document, grammar.REPORT_FILE)
        report = Reporter(document, self.problems)
        for name, table in values.get("report", {}).items():
            if name in self.reports:
                self._twice(name, "report", self.reports[name].document, report, (name,))
                continue
            found = report_of(document, name, table, self.site)
            self.reports[name] = found
            if is_right:
                check_report(found, report)

    def _twice(self, name: str, key: str, first: Document, report: Reporter, below: KeyPath = ()) -> None:
        where = first.value_place((key, *below))
        message = Words(f'"{name}" is also in {where}', f"“{name}” 在 {where} 也有")
        report.value("H202", (key, *below), message, Words("keep one of the two files", "两个文件只保留一个"))
