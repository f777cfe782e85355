"""What a database says about itself, as records. Names as the database stores them; lookups ignore case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple


class Name(NamedTuple):
    """A name with its schema (or owner, or database), lower case. The schema is empty where the engine has none."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `family`: text number date time datetime bool binary other."""

    name: str
    type: str
    nullable: bool
    comment: str
    family: str


@dataclass(frozen=True, slots=True)
class Index:
    """One index, its key columns in order. An index on an expression has "" in that place."""

    name: str
    unique: bool
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view. `kind` is "table" or "view"."""

    schema: str
    name: str
    kind: str
    comment: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()

    @property
    def key(self) -> Name:
        return Name(self.schema.lower(), self.name.lower())

    def column(self, name: str) -> Column | None:
        """The column of that name, in any case."""
        folded = name.casefold()
        return next((column for column in self.columns if column.name.casefold() == folded), None)

    def leads_index(self, column: str) -> bool:
        """Whether an index or the primary key begins with the column."""
        folded = column.casefold()
        keys = (self.primary_key, *(index.columns for index in self.indexes))
        return any(columns and columns[0].casefold() == folded for columns in keys)


@dataclass(frozen=True, slots=True)
class RoutineParameter:
    """One parameter. `direction`: in out inout return."""

    name: str
    direction: str
    type: str
    has_default: bool = False


@dataclass(frozen=True, slots=True)
class Routine:
    """A procedure or function; overloads are several records. `invoker`: its body runs with the rights of the caller.

    `schema` of a procedure in an Oracle package is OWNER.PACKAGE. `body` is its text where the login may see it.
    """

    schema: str
    name: str
    kind: str
    comment: str
    parameters: tuple[RoutineParameter, ...]
    invoker: bool = False
    body: str = field(default="", repr=False)
    signature: str = ""

    @property
    def key(self) -> Name:
        return Name(self.schema.lower(), self.name.lower())


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are at the server. `search`: schemas that a bare name is looked for in, in order. `powers`: server-wide
    roles that no agent needs (superuser, sysadmin, DBA). `charset`: of the database."""

    user: str
    database: str
    charset: str
    search: tuple[str, ...]
    powers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything the login can see outside the system schemas. `rights`: object -> SELECT INSERT UPDATE DELETE EXECUTE
    that the login has (its roles and PUBLIC counted)."""

    engine: str
    login: Login
    tables: Mapping[Name, Table]
    routines: Mapping[Name, tuple[Routine, ...]]
    rights: Mapping[Name, frozenset[str]]

    def table(self, name: str) -> Table | None:
        """The table or view that a statement means by `name` (`t`, `schema.t`, `db.schema.t`), or None."""
        return next((self.tables[key] for key in self.candidates(name) if key in self.tables), None)

    def routine(self, name: str) -> tuple[Routine, ...]:
        """The routines (overloads) that a call means by `name`; empty when there is none."""
        return next((self.routines[key] for key in self.candidates(name) if key in self.routines), ())

    def candidates(self, name: str) -> Iterable[Name]:
        """Where `name` is looked for, in order."""
        parts = [part.strip('"`[]').lower() for part in name.split(".")]
        *front, last = parts
        if front:
            yield Name(".".join(front), last)
            if len(front) > 1:
                yield Name(front[-1], last)
            # pkg.proc of the own schema
            yield from (Name(f"{schema.lower()}.{'.'.join(front)}", last) for schema in self.login.search)
        else:
            yield from (Name(schema.lower(), last) for schema in self.login.search)

    def has(self, name: Name, right: str) -> bool:
        """Whether the login has the right."""
        return right in self.rights.get(name, frozenset())


_FAMILIES = (
    ("datetime", ("timestamp", "datetime", "smalldatetime", "datetimeoffset")),
    ("number", ("int", "numeric", "decimal", "number", "float", "double", "real", "money", "serial", "binary_")),
    ("bool", ("bool", "bit")),
    ("binary", ("blob", "bytea", "binary", "varbinary", "raw", "image")),
    ("text", ("char", "text", "clob", "string", "enum", "uuid", "uniqueidentifier", "xml", "json", "name")),
    ("date", ("date",)),
    ("time", ("time", "interval")),
)


def family_of(type_name: str, *, engine: str = "") -> str:
    """What sort of value a column of this type gives. An Oracle DATE holds a time of day as well."""
    word = type_name.lower()
    if engine in {"oracle", "dm"} and word.startswith("date"):
        return "datetime"
    return next((family for family, words in _FAMILIES if any(item in word for item in words)), "other")


_CHAR: Final = re.compile(r"n?char(?:acter)?\((\d+)", re.IGNORECASE)
# PostgreSQL, MySQL and SQL Server pay no heed to trailing blanks; SQLite stores what it is given.
_BLANKS_COUNT: Final = frozenset({"oracle", "dm"})


def padded_length(type_name: str, engine: str) -> int:
    """Of a CHAR column that is not equal to the same text without its blanks: its length. 0: of any other."""
    match = _CHAR.match(type_name)
    return int(match[1]) if match is not None and engine in _BLANKS_COUNT and int(match[1]) > 1 else 0
