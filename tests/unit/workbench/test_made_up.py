"""What a statement is planned with where there is no real call: what the mapping file says, where it says something."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from his_db.engine import SourceSettings
from his_db.workbench.made_up import generated_statements, values_for
from his_db.workbench.site import Site
from his_db.workbench.usage import Use, uses_of

QUERY = """
schema = 1
operation = "CatalogService.ListSlots"
kind = "query"
{lock}
sql = "SELECT id, schedule FROM slot WHERE schedule = :schedule_id AND since <= :before AND until <= :until ORDER BY id"
params = [ {{ name = "before", from = "$lock_before" }}, {{ name = "until", from = "$lock_until" }} ]
[[result]]
fields = [
  {{ to = "slot_id", column = "id" }},
  {{ to = "schedule_id", column = "schedule" }},
  {{ to = "free_count", const = 1 }},
  {{ to = "state", const = "FREE" }},
]
"""
TABLE = """
schema = 1
operation = "CatalogService.ListSlots"
kind = "table"
{lock}
object = "slot"
order_by = ["id"]
where = [ {{ column = "schedule", from = "schedule_id" }}, {{ column = "since", from = "$lock_before", compare = "<=" }} ]
[[result]]
fields = [
  {{ to = "slot_id", column = "id" }},
  {{ to = "schedule_id", column = "schedule" }},
  {{ to = "free_count", const = 1 }},
  {{ to = "state", const = "FREE" }},
]
"""


def use(folder: Path, text: str) -> tuple[Site, Use]:
    (folder / "slots.toml").write_text(text, encoding="utf-8")
    moment = datetime(2026, 3, 2, 1, 30, tzinfo=UTC)
    site = Site(folder, {"his": SourceSettings("his", "sqlite", database=":memory:")}, clock=lambda: moment)
    [found] = uses_of(site.load())
    return site, found


@pytest.mark.parametrize(
    ("lock", "before", "until"),
    [
        ("", datetime(2026, 3, 2, 9, 20), datetime(2026, 3, 2, 9, 40)),  # the language's own 10 minutes
        ('lock = "90s"', datetime(2026, 3, 2, 9, 28, 30), datetime(2026, 3, 2, 9, 31, 30)),
        ('lock = "30m"', datetime(2026, 3, 2, 9), datetime(2026, 3, 2, 10)),
    ],
)
def test_a_lock_lives_as_long_as_the_file_says(tmp_path: Path, lock: str, before: datetime, until: datetime) -> None:
    site, found = use(tmp_path, QUERY.format(lock=lock))
    values = values_for(site, found, found.statements[0].sql)
    assert (values["before"], values["until"]) == (before, until)
    site, found = use(tmp_path, TABLE.format(lock=lock))
    binds = [value for _, sent in generated_statements(site, found) for value in sent.values()]
    assert before in binds
    assert {value for value in binds if isinstance(value, datetime)} == {before}
