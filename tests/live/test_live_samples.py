"""Opt-in: the sample HIS of SQL Server and of Oracle on a server of yours. ``tests/conformance/packs`` run the packs on them.

Nothing of this has run where it was written. Without a server, ``tests/unit/samples`` reads what is sent.
"""

from __future__ import annotations

import pytest

from his_db.registry import LIVE_SAMPLES, load_sample
from his_db.sample import SMALL, WindowRefusal, hospital_now
from tests.servers import opted_in, url_of


@pytest.mark.parametrize("name", sorted(LIVE_SAMPLES))
def test_made_twice_and_used_by_its_window(name: str) -> None:
    sample = load_sample(name)
    with opted_in(sample.engine) as settings:
        url, today = url_of(settings), hospital_now().date()
        summary = sample.create(url, today=today, size=SMALL)
        assert sample.create(url, today=today, size=SMALL) == summary  # drops what is there
        window = sample.window(url)
        try:
            booked = window.orders(channel_only=True, states=("BOOKED",), limit=1)[0]
            window.cancel_booking(booked.his_id, operator="0931")
            with pytest.raises(WindowRefusal):
                window.cancel_booking(booked.his_id, operator="0931")
            walk_in = window.walk_in(booked.schedule_id, booked.patient_id, operator="0931")
            window.refund(walk_in, operator="0931")
            states = {o.his_id: o.state for o in window.orders(channel_only=False, limit=10_000)}
            assert (states[booked.his_id], states[walk_in]) == ("CANCELLED", "REFUNDED")
            assert window.raw(walk_in)
            assert window.raw_schedule(booked.schedule_id)
        finally:
            window.close()
