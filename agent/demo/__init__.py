"""``his160 demo``: the whole product in one story, with real processes on a sample HIS."""
