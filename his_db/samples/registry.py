"""The only list of the sample HIS: name to "module:Class", loaded when chosen."""

from __future__ import annotations

import importlib
from typing import cast

from his_db.sample import SampleHis

SAMPLES: dict[str, str] = {
    "winning": "his_db.samples.winning:WinningSample",
    "zebone": "his_db.samples.zebone:ZeboneSample",
}


def load_sample(name: str) -> SampleHis:
    """The sample HIS of that name; `KeyError` when there is none."""
    module, _, attribute = SAMPLES[name].partition(":")
    return cast(SampleHis, getattr(importlib.import_module(module), attribute)())
