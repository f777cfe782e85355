"""State stores, listed in ``sync/registry.py``; one conformance suite for all: ``tests/conformance/test_stores.py``."""
