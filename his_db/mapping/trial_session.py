"""The HIS of a `[[test]]`: a session that answers what the file says, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from his_db.engine import ParameterKind, ProcedurePlan, ProcedureResult, Rows
from his_db.http_exchange import HttpReply, HttpRequest
from his_db.mapping.model import OperationMapping, ResultSpec, TrialSpec
from his_db.mapping.reply import ReplyError, parse_json
from his_db.mapping.sql_text import is_select

_TYPES: Final = {"json": "application/json", "form": "application/json"}


class ScriptedSession:
    """See `his_db.engine.Session` and `his_db.http_exchange.Exchanger`. One for each test."""

    goes_out = False

    def __init__(self, test: TrialSpec, mapping: OperationMapping, answers: Sequence[OperationMapping]) -> None:
        self._test = test.values
        self._mapping = mapping
        self._answers = list(zip(answers, test.values.get("answers", []), strict=False))
        self._unused = mapping.kind != "steps"  # whether the operation's own statement is still to come
        self._steps = {mapping.sql(item): item for item in reversed(mapping.values.get("step", []))}
        selects = [item for item in mapping.values.get("step", []) if is_select(mapping.sql(item))]
        marked = [item for item in selects if item["result"]] or selects
        named = [result.set for result in mapping.results if isinstance(result.set, str)]
        self._result = named[0] if named else marked[-1]["name"] if marked else ""
        self._diagnoses = {mapping.sql(item): at for at, item in enumerate(mapping.values.get("diagnosis", []), 1)}
        self._replies = list(test.values.get("replies", []))
        self.sent: list[Mapping[str, Any]] = []

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        """A step by its name, a diagnosis by its number, else the operation's own rows, then those of its answers."""
        self.sent.append(dict(values))
        if sql in self._steps:
            return self._step(self._steps[sql], sql)
        if sql in self._diagnoses:
            return Rows(("found",), [(1,)] if self._diagnoses[sql] == self._test.get("diagnosis") else [], -1)
        return self._next_rows()

    def _step(self, item: Mapping[str, Any], sql: str) -> Rows:
        given = self._test.get("steps", {}).get(item["name"])
        expected = item.get("expect_rows", 1)
        if not is_select(sql):
            changed = given if isinstance(given, int) else self._test.get("changed", expected)
            return Rows((), (), changed)
        is_given = isinstance(given, list)
        tables = given if is_given else [{}] * (given if isinstance(given, int) else expected)
        if given is None and "rows" in self._test and item["name"] == self._result:
            tables = self._test["rows"]
        # Columns that later steps take from this one are there, and NULL where the file says nothing.
        passed = [param.step.partition(".") for param in self._mapping.params if param.step]
        taken = [column for step, _, column in passed if step == item["name"]]
        mapped = [name for result in self._mapping.results for name in result.columns()]
        return _rows(tables, [*mapped, *taken], _raw_columns(self._mapping.results))

    def _next_rows(self) -> Rows:
        if self._unused:
            self._unused = False
            return self._rows(self._test.get("rows", []))
        if not self._answers:
            return Rows((), (), -1)
        mapping, rows = self._answers.pop(0)
        return rows_of(rows, mapping.results)

    def _rows(self, tables: Sequence[Mapping[str, Any]]) -> Rows:
        return rows_of(tables, self._mapping.results)

    def stream(self, sql: str, values: Mapping[str, Any], *, size: int) -> Iterator[Rows]:
        """As `run`: a test has few rows."""
        yield self.run(sql, values, max_rows=size)

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        """`returns` and `sets` (or `rows`); a parameter that the file does not name comes back as NULL."""
        self.sent.append(dict(values))
        outs = [item.name for item in plan.parameters if item.kind is not ParameterKind.IN]
        if not self._unused:
            return ProcedureResult(dict.fromkeys(outs), (self._next_rows(),))
        self._unused = False
        given = {name.casefold().lstrip("@"): value for name, value in self._test.get("returns", {}).items()}
        sets = self._test.get("sets", [self._test["rows"]] if "rows" in self._test else [])
        # What is a parameter, IN ones as they were sent, is no column of a set unless the file writes it there.
        own = {item.name.casefold().lstrip("@") for item in plan.parameters}
        found = (_set(tables, self._mapping.results, own) for tables in sets)
        return ProcedureResult({name: given.get(name.casefold().lstrip("@")) for name in outs}, tuple(found))

    def exchange(self, request: HttpRequest) -> HttpReply:
        """`reply` with `status`; a gateway may ask more than once: `replies`."""
        values = self._mapping.values
        charset = values.get("charset", "utf-8")
        body = request.body.decode(charset)
        sent = {"path": request.target, "body": body, **dict(request.headers)}
        if self._mapping.kind == "gateway":
            sent = {**json_leaves(body), **sent}
        kind = _TYPES.get(values.get("reply", values.get("format", "json")), "text/xml")
        reply = self._test.get("reply", "")
        if self._replies:
            reply = self._replies.pop(0)
        self.sent.append(sent)
        return HttpReply(self._test.get("status", 200), f"{kind}; charset={charset}", reply.encode(charset))

    def begin(self) -> None:
        """See the port."""

    def commit(self) -> None:
        """See the port."""

    def rollback(self) -> None:
        """See the port."""

    def alive(self) -> bool:
        """See the port."""
        return True

    def ping(self) -> bool:
        """See the port."""
        return True

    def abort(self) -> None:
        """See the port."""

    def close(self) -> None:
        """See the port."""


def json_leaves(body: str) -> dict[str, Any]:
    """The single values of a JSON body by their dotted path, places in lists as numbers; {} for anything else."""
    try:
        found = parse_json(body)
    except ReplyError:
        return {}
    return dict(_leaves(found, ""))


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    below = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if below is None:
        yield path, node
        return
    for name, item in below:
        yield from _leaves(item, f"{path}.{name}" if path else str(name))


def _set(tables: Sequence[Mapping[str, Any]], results: Sequence[ResultSpec], parameters: set[str]) -> Rows:
    """A result set of a procedure: its own columns, and of each result that it touches all but the parameters."""
    written = {name.casefold() for table in tables for name in table}
    touched = [result for result in results if written & {name.casefold() for name in result.columns()} or not tables]
    more = [name for result in touched for name in result.columns() if name.casefold().lstrip("@") not in parameters]
    return _rows(tables, more, _raw_columns(results))


def rows_of(tables: Sequence[Mapping[str, Any]], results: Sequence[ResultSpec]) -> Rows:
    """Rows of a test. A column that a row does not name is NULL there; columns that the mapping reads are always there.

    Text in a column that is read raw (`charset = "gbk-raw"`) becomes its GBK bytes.
    """
    return _rows(tables, [name for result in results for name in result.columns()], _raw_columns(results))


def _raw_columns(results: Sequence[ResultSpec]) -> set[str]:
    return {spec.column.casefold() for result in results for spec in result.fields if spec.charset}


def _rows(tables: Sequence[Mapping[str, Any]], mapped: Sequence[str], raw: set[str]) -> Rows:
    names: dict[str, str] = {}
    for name in (*(key for table in tables for key in table), *mapped):
        names.setdefault(name.casefold(), name)
    found = []
    for table in tables:
        folded = {name.casefold(): value for name, value in table.items()}
        found.append(tuple(_value(folded.get(name), name in raw) for name in names))
    return Rows(tuple(names.values()) or ("found",), found if names else [(None,)] * len(tables), -1)


def _value(value: Any, is_raw: bool) -> Any:
    return value.encode("gb18030") if is_raw and isinstance(value, str) else value
