"""Capture strategies, listed in ``sync/registry.py``; one conformance suite: ``tests/conformance/test_captures.py``."""
