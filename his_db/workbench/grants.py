"""Exactly the rights that the mappings need, from what they use and, where a procedure runs with the caller's rights,
from what its body touches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from his_db.catalogue.grant_script import GrantScript, grant_script
from his_db.catalogue.model import Catalogue, Name
from his_db.mapping.load import MappingSet
from his_db.mapping.sql_text import statements, tokens
from his_db.workbench.site import Connection, Site, connected
from his_db.workbench.usage import Use, touched, uses_of

DEFAULT_ACCOUNT = "his160"


def grants(site: Site, mapping_set: MappingSet, *, account: str = "") -> dict[str, GrantScript]:
    """The script of each source that the mappings use. `account`: who is granted; default: the login of config.toml
    unless that is a superuser, then `his160`. Raises SourceFailed."""
    found: dict[str, GrantScript] = {}
    uses = uses_of(mapping_set)
    for source in sorted({use.source for use in uses}):
        with connected(site.sources[source]) as connection:
            catalogue = connection.catalogue()
            rights = needed_rights([use for use in uses if use.source == source], catalogue)
            invoked = add_bodies(catalogue, rights)
            login = catalogue.login
            whom = account or (login.user if login.user and not login.powers else DEFAULT_ACCOUNT)
            found[source] = grant_script(
                catalogue,
                {name: frozenset(needed) for name, needed in rights.items()},
                whom,
                sequences=_sequences(connection, catalogue, rights),
                comments=_comments(mapping_set, source, invoked),
            )
    return found


def needed_rights(uses: Iterable[Use], catalogue: Catalogue) -> dict[Name, set[str]]:
    """What the statements and calls of these uses need."""
    rights: dict[Name, set[str]] = {}
    for use in uses:
        for name, needed in touched(use, catalogue).rights.items():
            rights.setdefault(name, set()).update(needed)
    return rights


def _comments(mapping_set: MappingSet, source: str, invoked: Sequence[str]) -> tuple[str, ...]:
    lines = [
        f"his160: source {source}, mappings {mapping_set.revision}",
        "exactly what these mappings use; nothing else is needed / 仅包含映射实际用到的对象，不需要其他权限",
    ]
    if invoked:
        names = ", ".join(invoked)
        lines.append(
            f"these run with the caller's rights, so what their bodies touch is granted too: {names} / "
            "以上过程以调用者身份运行，因此连同其内部访问的对象一并授权"
        )
    return tuple(lines)


def add_bodies(catalogue: Catalogue, rights: dict[Name, set[str]]) -> tuple[str, ...]:
    """Rights for the bodies of invoker's routines, and of what they call; the names of these routines."""
    waiting = [name for name in rights if name in catalogue.routines]
    # A view runs the functions in it with the caller's EXECUTE right; those are in the rights of PUBLIC nearly always.
    done: set[Name] = set()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        for routine in catalogue.routines[name]:
            if not routine.invoker or not routine.body:
                continue
            for other, needed in body_rights(routine.body, catalogue).items():
                rights.setdefault(other, set()).update(needed)
                if other in catalogue.routines:
                    waiting.append(other)
    return tuple(str(name) for name in sorted(done) if any(routine.invoker for routine in catalogue.routines[name]))


def body_rights(body: str, catalogue: Catalogue) -> dict[Name, set[str]]:
    """What a routine's text touches, by its words: names of tables and routines, and the verb before them."""
    found: dict[Name, set[str]] = {}
    for statement in statements(body):
        words = _names(statement)
        locks = any(pair == ("FOR", "UPDATE") for pair in pairwise(words))
        for at, word in enumerate(words):
            table = catalogue.table(word)
            if table is not None:
                needed = _verb(words, at)
                found.setdefault(table.key, set()).update(
                    needed | ({"UPDATE"} if locks and table.kind == "table" else set())
                )
            elif "." in word or word.upper() not in _COMMON:
                for routine in catalogue.routine(word):
                    found.setdefault(routine.key, set()).add("EXECUTE")
    return found


_COMMON = frozenset({"BEGIN", "END", "IF", "THEN", "SELECT", "INTO", "SET", "CALL", "RETURN"})


def _names(statement: str) -> list[str]:
    """Its words, dotted names put together."""
    found: list[str] = []
    joins = False
    for token in tokens(statement):
        if token.sort in {"word", "name"}:
            text = token.text.strip('"`[]')
            if joins and found:
                found[-1] += f".{text}"
            else:
                found.append(text)
            joins = False
        elif token.text == ".":
            joins = True
        elif token.sort != "space":
            joins = False
    return [word.upper() if word.upper() in _VERBS else word for word in found]


_VERBS = frozenset({"INSERT", "INTO", "UPDATE", "DELETE", "FROM", "MERGE", "FOR", "ONLY", "JOIN", "SELECT"})


def _verb(words: Sequence[str], at: int) -> set[str]:
    before = [word.upper() for word in words[max(0, at - 2) : at]]
    match before:
        case [*_, "INSERT", "INTO"]:
            return {"INSERT", "SELECT"}  # RETURNING, ON CONFLICT
        case [*_, "MERGE", "INTO"]:
            return {"INSERT", "UPDATE", "SELECT"}
        case [*_, "DELETE", "FROM"]:
            return {"DELETE", "SELECT"}
        case [*_, "UPDATE"] | [*_, "UPDATE", "ONLY"]:
            return {"UPDATE", "SELECT"}
    return {"SELECT"}


def _sequences(connection: Connection, catalogue: Catalogue, rights: dict[Name, set[str]]) -> Iterable[Name]:
    """PostgreSQL alone: sequences behind defaults of the tables that are inserted into, or named in the bodies."""
    if catalogue.engine != "postgresql":
        return ()
    from his_db.catalogue.readers.postgresql import PostgresqlReader  # the only engine with rights on them

    found: set[Name] = set()
    inserted = {name for name, needed in rights.items() if "INSERT" in needed}
    bodies = " ".join(
        routine.body.lower() for name in rights for routine in catalogue.routines.get(name, ()) if routine.invoker
    )
    for schema, sequence, table in PostgresqlReader().sequences(connection.session):
        name = Name(schema.lower(), sequence.lower())
        if Name(schema.lower(), table.lower()) in inserted or str(name) in bodies:
            found.add(name)
    return sorted(found)
