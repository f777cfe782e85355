"""SQL in every text field of every request, on the sample HIS of every pack: nothing is executed, lost or shown."""

from __future__ import annotations

from typing import Any

import pytest

from his_db import contract
from his_db.catalogue.grant_script import quoted
from his_db.catalogue.reader import reader_for
from his_db.errors import HisError
from his_db.source import engine_for, settings_from_url
from his_db.workbench.made_up import made_up_request
from tests.conformance.packs.hospital import Hospital, key
from tests.hostile import HOSTILE, MARK, fill


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_no_text_of_a_request_is_executed(hospital: Hospital, text: str) -> None:
    before = tables(hospital)
    assert before
    for name in sorted(hospital.his.generation.operations):
        about = contract.operation(name)
        mapping: Any = _Made(about)
        request = fill(made_up_request(mapping, hospital.today), text)
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            setattr(request, "request_id", key())  # noqa: B010 - every write has one
        try:
            if about.is_read:
                await hospital.his.read(name, request)
            else:
                await hospital.his.write(name, request, key=key())
        except HisError as error:
            assert MARK not in f"{error} {error.detail}", name
    after = tables(hospital)
    assert after.keys() == before.keys()
    lost = {name: (count, after[name]) for name, count in before.items() if after[name] < count}
    assert lost == {}


class _Made:
    """What `made_up_request` needs of a mapping."""

    def __init__(self, operation: contract.ContractOperation) -> None:
        self.operation = operation


def tables(hospital: Hospital) -> dict[str, int]:
    """Rows of every table of the HIS."""
    settings = settings_from_url("his", hospital.url)
    engine = engine_for(settings)
    session = engine.open(read_only=True)
    try:
        count: dict[str, int] = {}
        for table in reader_for(settings.engine).read(session).tables.values():
            is_ours = settings.engine != "mysql" or table.schema == settings.database  # other tests have theirs
            if table.kind == "table" and is_ours:
                name = ".".join(quoted(settings.engine, part) for part in (table.schema, table.name) if part)
                sql = f"SELECT COUNT(*) FROM {name}"
                count[name] = int(session.run(sql, {}, max_rows=1).rows[0][0])
        return count
    finally:
        session.close()
        engine.dispose()
