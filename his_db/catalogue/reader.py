"""The port of a catalogue reader: what differs between engines when a database is asked about itself.

Implementations: `his_db/catalogue/readers/<engine>.py`, listed in READERS. All of them read only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, ClassVar, Final, Protocol

from his_db.catalogue.model import Catalogue
from his_db.engine import Session

READERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sqlite": "his_db.catalogue.readers.sqlite:SqliteReader",
        "postgresql": "his_db.catalogue.readers.postgresql:PostgresqlReader",
        "mysql": "his_db.catalogue.readers.mysql:MysqlReader",
        "mssql": "his_db.catalogue.readers.mssql:MssqlReader",
        "oracle": "his_db.catalogue.readers.oracle:OracleReader",
        "dm": "his_db.catalogue.readers.oracle:OracleReader",
    }
)
MAX_ROWS: Final = 500_000  # the largest HIS known has 9,000 tables with 130,000 columns
CHINESE: Final = "号源锁定·䶮𠅤"  # common, rare (GB18030) and outside the BMP


@dataclass(frozen=True, slots=True)
class Plan:
    """What the database would do. `indexes`: (table, index) that it uses; `scans`: tables it reads from end to end; of
    a table the plan tells its name, or what the statement calls it, or nothing. `lines`: its own words. Empty `lines`:
    this engine tells it only to a login with more rights than the agent should have."""

    lines: tuple[str, ...]
    indexes: tuple[tuple[str, str], ...]
    scans: tuple[str, ...]


class CatalogueReader(Protocol):
    """One engine. Stateless; made without arguments. Raises the driver's exceptions as they are."""

    statements: ClassVar[Mapping[str, str]]
    """Every statement it may send, by purpose."""
    plans_writes_read_only: ClassVar[bool]
    """Whether a read-only session may ask for the plan of a writing statement."""

    def read(self, session: Session) -> Catalogue:
        """All that the login can see."""

    def charset(self, session: Session) -> str:
        """`CHINESE` there and back, as a literal and as a bind: what came back when it is not the same, else empty."""

    def explain(self, session: Session, sql: str, values: Mapping[str, Any]) -> Plan:
        """The plan of one statement; nothing is executed."""

    def describe(self, session: Session, sql: str, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the columns that a SELECT gives, without reading a row."""

    def prepare(self, session: Session, sql: str, values: Mapping[str, Any]) -> bool:
        """Let the server check a writing statement without running it. False where the engine cannot."""

    def savepoint(self) -> tuple[str, str]:
        """Statements that set a savepoint and go back to it: going back fails when somebody has committed between."""


def reader_for(engine: str) -> CatalogueReader:
    """The reader of an engine. Raises KeyError for an engine without one."""
    module, _, name = READERS[engine].partition(":")
    reader: CatalogueReader = getattr(import_module(module), name)()
    return reader


def rows_of(session: Session, sql: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """All rows of a statement about the catalogue."""
    return list(session.run(sql, values or {}, max_rows=MAX_ROWS).rows)


def charset_answer(session: Session, literal_sql: str, bind_sql: str) -> str:
    """Shared by readers: both ways there and back; empty when both are right."""
    first = str(rows_of(session, literal_sql)[0][0])
    second = str(rows_of(session, bind_sql, {"words": CHINESE})[0][0])
    return "" if first == second == CHINESE else (first if first != CHINESE else second)
