"""Feeds by engine, listed in ``his_db/registry.py``; tested by the late-commit race (``tests/conformance``)."""
