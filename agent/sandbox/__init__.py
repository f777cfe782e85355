"""``his160 sandbox``: a relay on the hospital's own bench, for demo, tests and training."""
