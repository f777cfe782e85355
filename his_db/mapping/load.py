"""A folder of mapping files -> a checked mapping set, or every problem that all of them have."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from his_db import contract, registry
from his_db.document import encoding
from his_db.document.damage import Damage
from his_db.document.finding import Words, nearest
from his_db.document.located import Document, parse_document
from his_db.document.located import Path as KeyPath
from his_db.document.meant import as_meant
from his_db.document.problem import DocumentError, Place, Problem, Problems
from his_db.document.shape import AnyValue, Field, TableOf, Text, check_shape
from his_db.gateway import OpenedGateway
from his_db.kind import Kind
from his_db.mapping import grammar, national_codes
from his_db.mapping.check_codes import check_map
from his_db.mapping.check_gateway import (
    GATEWAY,
    check_gateway,
    check_refunds_are_asked,
    gateway_of,
    operations_of,
    refuse_single_operation,
)
from his_db.mapping.check_operation import check_among, check_operation, check_source
from his_db.mapping.check_report import check_report
from his_db.mapping.check_statement import check_statements
from his_db.mapping.check_watch import check_watch
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.known_files import KnownFiles
from his_db.mapping.model import UNREAD, CodeMap, MappingSet, OperationMapping, ReportMapping, Site, WatchMapping
from his_db.mapping.read import codes_of, gateway_operation_of, operation_of, report_of, watch_of

__all__ = ["MappingSet", "load_mapping_set"]

# What a file without a kind, or with one that nobody knows, probably is: by the first of these keys that it has.
_KIND_OF_KEY: Final = {"step": "steps", "body": "http", "outcome": "procedure", "sql": "query", "sql_file": "query"}
_SORTS: Final = TableOf({name: Field(Text()) for name in ("operation", "gateway", "watch", "codes")}, extra=AnyValue())
_SUFFIXES: Final = frozenset({".toml", ".sql"})
_MAX_BYTES: Final = 1_000_000


def load_mapping_set(
    folder: Path,
    *,
    sources: Mapping[str, str],
    timezone: str,
    known: KnownFiles | None = None,
    is_checked: bool = False,
) -> MappingSet:
    """The mapping set in `folder`. `sources`: name of each [source.<name>] of config.toml -> name of its engine.

    `timezone` is the hospital's (IANA). Files whose name begins with `.` or `_`, and all but `.toml` and `.sql`, are no
    part of the set. Warnings are kept in the result. `known`: files of the last load, which are not read again while
    they are the same. `is_checked`: somebody has checked this very set, so only its shape is looked at.
    Raises DocumentError with the problems of all files.
    """
    loader = _Loader(dict(sources), timezone, known or KnownFiles(), is_checked)
    loader.read(folder)
    loader.check()
    loader.check_not_empty()
    if loader.problems:
        raise DocumentError(loader.problems)
    return MappingSet(
        revision=loader.revision(),
        operations=dict(sorted(loader.operations.items())),
        watches=dict(sorted(loader.watches.items())),
        site=loader.site,
        warnings=loader.problems.warnings,
        reports=dict(sorted(loader.reports.items())),
        digests=loader.digests,
    )


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Path within the folder, with `/`, and the file; in the order of the names."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith((".", "_")) for part in name.parts)
        if path.suffix.lower() in _SUFFIXES and not hidden and path.is_file():
            yield name.as_posix(), path


def _is_text(name: str) -> bool:
    """Whether the name is one: what the file system gives in another encoding holds halves of characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _operation_file(kind: Kind | None) -> TableOf:
    return grammar.ANY_OPERATION if kind is None else TableOf({**grammar.OPERATION_KEYS, **kind.keys()})


@lru_cache(1)
def _national() -> tuple[CodeMap, ...]:
    documents = [parse_document(text, f"(national codes {at + 1})") for at, text in enumerate(national_codes.TEXTS)]
    return tuple(codes_of(document, check_shape(document, grammar.CODES_FILE, Problems())) for document in documents)


@cache
def _known_keys() -> frozenset[str]:
    """Names that some sort of file has at its top."""
    kinds = [registry.load(entry)().keys() for entry in registry.KINDS.values()]
    shapes = (grammar.WATCH_FILE, grammar.CODES_FILE, grammar.REPORT_FILE, grammar.gateway_file({}))
    return frozenset().union(grammar.OPERATION_KEYS, *kinds, *(shape.fields for shape in shapes))


def _unread_document() -> Document:
    """A document about which nothing is reported."""
    return Document("", {}, damage=Damage([()]))


@dataclass(slots=True)
class _Loader:
    """One run: files first, then code maps, then what uses them, then what only the whole set shows.

    A file with problems is looked at as far as it can be: a wrong key must not hide a missing field or a bad statement.
    What files say that cannot be read at all is not called missing elsewhere.
    """

    sources: Mapping[str, str]
    timezone: str
    known: KnownFiles
    is_checked: bool = False
    problems: Problems = field(default_factory=Problems)
    operations: dict[str, OperationMapping] = field(default_factory=dict)
    watches: dict[str, WatchMapping] = field(default_factory=dict)
    codes: dict[str, CodeMap] = field(default_factory=dict)
    documents: list[Document] = field(default_factory=list)
    sql_files: dict[str, str] = field(default_factory=dict)
    reports: dict[str, ReportMapping] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)
    gateways: dict[str, Document] = field(default_factory=dict)
    _opened: dict[str, OpenedGateway] = field(default_factory=dict)
    _unread: list[str] = field(default_factory=list)  # what there is of the texts of such files

    @property
    def site(self) -> Site:
        return Site(self.sources, self.timezone, self.codes, self.sql_files, self._opened)

    def revision(self) -> str:
        """16 hex digits over the names and bytes of all files."""
        found = hashlib.sha256()
        for name, digest in self.digests.items():
            found.update(name.encode() + b"\0" + digest)
        return found.hexdigest()[:16]

    def read(self, folder: Path) -> None:
        """All files of the folder."""
        if not folder.is_dir():
            self._fault(str(folder), "H100", Words("the mapping folder does not exist", "映射文件夹不存在"))
            return
        for name, path in _files(folder):
            if not name.isascii() and not _is_text(name):
                self._misnamed(name)
                continue
            try:
                raw = path.read_bytes()
            except OSError as error:
                why = error.strerror or type(error).__name__
                self._fault(name, "H100", Words(f"the file cannot be read: {why}", f"无法读取文件：{why}"))
                continue
            if len(raw) > _MAX_BYTES:
                self._fault(name, "H100", Words("the file is larger than 1 MB", "文件大于 1 MB"))
                continue
            digest = self.digests[name] = hashlib.sha256(raw).digest()
            if name.lower().endswith(".sql"):
                text, problem = encoding.read(raw, name)
                self.sql_files[name] = UNREAD if text is None else text
                self.problems.extend([] if problem is None else [problem])
                continue
            document, problems = self.known.document(name, raw, digest)
            self.problems.extend(problems)
            if document is None:
                self._unread.append(raw.decode("utf-8", "replace"))
            else:
                self.documents.append(document)

    def _misnamed(self, name: str) -> None:
        """A file whose name is in another encoding: an archive made on Windows, unpacked here."""
        try:
            shown = name.encode("utf-8", "surrogateescape").decode("gb18030", "replace")
        except UnicodeEncodeError:  # Windows allows half a character
            shown = name.encode("utf-8", "replace").decode()
        self.problems.add(
            Problem(
                Place(shown, 1, 1),
                "H100",
                "the name of the file is not in UTF-8",
                "文件名不是 UTF-8 编码（可能在 Windows 上打包、在此解压）",
                "rename the file, or unpack the archive again with unzip -O gbk",
                "请重新命名，或用 unzip -O gbk 重新解压",
            )
        )
        self._unread.append("")

    def _fault(self, name: str, code: str, words: Words) -> None:
        self.problems.add(Problem(Place(name, 1, 1), code, words.en, words.zh))

    def check(self) -> None:
        """Everything, as far as each file allows."""
        documents = [self._sorted(document) for document in self.documents]
        for document in documents:
            if "codes" in document.data:
                self._codes(document)
        for codes in _national():
            self.codes.setdefault(codes.name, codes)
        for name in self._named("codes"):
            self.codes.setdefault(name, codes_of(_unread_document(), {"codes": name}))
        # Codes first: whether a code map exists can be said only when all of them are read.
        for document in (document for document in documents if "codes" not in document.data):
            # A line that says which operation it is may be the one that cannot be read.
            if "operation" in document.data or document.damage.hides(("operation",)):
                self._operation(document)
            elif GATEWAY in document.data:
                self._gateway(document)
            elif "watch" in document.data:
                self._watch(document)
            elif "report" in document.data:
                self._reports(document)
            else:
                message = Words(
                    "neither operation, gateway, watch, report nor codes is written here",
                    "文件中没有 operation、gateway、watch、report 或 codes",
                )
                Reporter(document, self.problems).key("H206", (), message, did_you_mean("operation", ["operation"]))
        if not self.is_checked:
            self._check_among()
        self.known.forget_others()

    def check_not_empty(self) -> None:
        """A set that maps nothing is a folder that was emptied, moved or not yet filled: nobody wants to run that."""
        if self.operations or self._unread or self.problems.errors:
            return
        self.problems.add(
            Problem(
                Place("mappings", 1, 1),  # a reload checks a copy, whose folder has another name
                "H241",
                f"no file of the folder maps an operation ({len(self.digests)} files)",
                f"文件夹里没有任何操作的映射（共 {len(self.digests)} 个文件）",
                "check that it is the right folder; files whose name begins with . or _ do not count",
                "请检查文件夹是否正确；名称以 . 或 _ 开头的文件不算",
            )
        )

    def _check_among(self) -> None:
        names = self._named("operation") & set(contract.mappable_names())
        unread = {name: operation_of(_unread_document(), {}, contract.operation(name), self.site) for name in names}
        known = {**unread, **self.operations}
        for mapping in self.operations.values():
            check_among(mapping, known, Reporter(mapping.document, self.problems))
        check_refunds_are_asked(self.operations, names, self.problems)

    def _sorted(self, document: Document) -> Document:
        """The document with the keys that say what it is, where they are misspelt."""
        if document.data.keys() <= _known_keys():
            return document
        if not document.data.keys() & {"operation", GATEWAY, "watch", "codes", "report"}:
            document = as_meant(document, _SORTS, self.problems, others=_known_keys())
        shape = grammar.ANY_OPERATION if "operation" in document.data else _SORTS
        return as_meant(document, shape, self.problems, others=_known_keys())

    def _named(self, key: str) -> set[str]:
        """What the files that cannot be read seem to define: `codes = "sex"`, `operation = "…"`."""
        pattern = re.compile(rf"^\s*{key}\s*=\s*[\"']([\w.]+)[\"']", re.MULTILINE)
        return {name for text in self._unread for name in pattern.findall(text)}

    def _shape(self, document: Document, shape: Callable[[], TableOf]) -> tuple[Document, dict[str, Any]]:
        """The document with its misspelt keys as they were meant, and its values: bad and missing ones are blank."""
        shaped = self.known.shaped(document, shape)
        self.problems.extend(shaped.problems)
        document = shaped.document
        if UNREAD in self.sql_files.values():  # the check will note what it then cannot know; the file stays as it is
            document = replace(document, damage=Damage(document.damage))
        version = document.data.get("schema")
        if isinstance(version, int) and version != grammar.SCHEMA:
            message = Words(f"schema {version} is not known to this version", f"本版本不支持 schema {version}")
            fix = Words(f"schema = {grammar.SCHEMA}", f"schema = {grammar.SCHEMA}")
            Reporter(document, self.problems).value("H200", ("schema",), message, fix)
        return document, shaped.values

    def _codes(self, document: Document) -> None:
        document, values = self._shape(document, lambda: grammar.CODES_FILE)
        codes = codes_of(document, values)
        report = Reporter(document, self.problems)
        if codes.name in self.codes:
            self._twice(codes.name, "codes", self.codes[codes.name].document, report)
        else:
            self.codes[codes.name] = codes
        if not self.is_checked:
            check_map(codes, report)

    def _operation(self, document: Document) -> None:
        if document.data.get("kind") == GATEWAY:
            refuse_single_operation(Reporter(document, self.problems))
            return
        kind = self._kind(document)
        document, values = self._shape(document, lambda: _operation_file(kind))
        if kind is None or document.data.get("kind") != kind.name:
            document = replace(document, damage=Damage([*document.damage, ("kind",)]))
        report = Reporter(document, self.problems)
        name = values["operation"]
        names = contract.mappable_names()
        if name not in names:
            self._unknown_operation(name, names, report)
            check_statements(document, values, self.site, report)
            return
        if kind is not None:
            values = {**values, "kind": kind.name}
        mapping = operation_of(document, values, contract.operation(name), self.site)
        if name in self.operations:
            self._twice(name, "operation", self.operations[name].document, report)
        else:
            self.operations[name] = mapping
        if not self.is_checked:
            check_operation(mapping, kind, report)

    def _unknown_operation(self, name: str, names: tuple[str, ...], report: Reporter) -> None:
        if name in contract.operation_names():
            message = Words(f"{name} is answered by the agent itself", f"{name} 由代理程序自己应答，不需要映射")
            report.value("H201", ("operation",), message, Words("delete this file", "删除本文件"))
            return
        message = Words(f'the contract has no operation "{name}"', f"标准中没有操作 “{name}”")
        report.value("H201", ("operation",), message, did_you_mean(name, names))

    def _kind(self, document: Document) -> Kind | None:
        """The kind of the file; where it names none, the one that was probably meant, to check the rest by."""
        name = document.data.get("kind")
        if isinstance(name, str) and name not in registry.KINDS:
            kinds = ", ".join(registry.KINDS)
            message = Words(f'there is no kind "{name}"; there are {kinds}', f"没有 kind “{name}”；可用的有 {kinds}")
            Reporter(document, self.problems).value("H123", ("kind",), message, did_you_mean(name, registry.KINDS))
        if not isinstance(name, str) or name not in registry.KINDS:  # of another type: the shape says so
            near = nearest(name, registry.KINDS) if isinstance(name, str) else ""
            name = near or next((kind for key, kind in _KIND_OF_KEY.items() if key in document.data), "")
        if not name:
            return None
        kind: Kind = registry.load(registry.KINDS[name])()
        return kind

    def _gateway(self, document: Document) -> None:
        gateway = gateway_of(document, Reporter(document, self.problems))
        shape = grammar.ANY_GATEWAY if gateway is None else grammar.gateway_file(gateway.options())
        document, values = self._shape(document, lambda: shape)
        report = Reporter(document, self.problems)
        if gateway is None:
            return
        if gateway.name in self.gateways:
            self._twice(gateway.name, GATEWAY, self.gateways[gateway.name], report)
            return
        self.gateways[gateway.name] = document
        mappings = []
        for name, place in operations_of(values, gateway, report):
            if name in self.operations:
                self._twice_at(name, place, self.operations[name].document.file, report)
                continue
            mapping = gateway_operation_of(document, values, contract.operation(name), self.site)
            self.operations[name] = mapping
            mappings.append(mapping)
        if mappings and not self.is_checked:
            check_gateway(mappings, values, gateway, report)

    def _watch(self, document: Document) -> None:
        document, values = self._shape(document, lambda: grammar.WATCH_FILE)
        watch = watch_of(document, values, self.site)
        report = Reporter(document, self.problems)
        if watch.name in self.watches:
            self._twice(watch.name, "watch", self.watches[watch.name].document, report)
        else:
            self.watches[watch.name] = watch
        if not self.is_checked:
            check_source(watch.source, self.sources, report)
            check_watch(watch, report)

    def _reports(self, document: Document) -> None:
        document, values = self._shape(document, lambda: grammar.REPORT_FILE)
        for name, table in values["report"].items():
            report = Reporter(document, self.problems, ("report", name))
            found = report_of(document, name, table, self.site)
            if name in self.reports:
                self._twice(name, "report", self.reports[name].document, report, (name,))
            else:
                self.reports[name] = found
            if not self.is_checked:
                check_report(found, report)

    def _twice(self, name: str, key: str, first: Document, report: Reporter, below: KeyPath = ()) -> None:
        self._twice_at(name, (key, *below), first.value_place((key, *below)), report)

    def _twice_at(self, name: str, place: KeyPath, where: object, report: Reporter) -> None:
        message = Words(f'"{name}" is also in {where}', f"“{name}” 在 {where} 也有")
        report.value("H202", place, message, Words("keep one of the two", "两处只保留一处"))
