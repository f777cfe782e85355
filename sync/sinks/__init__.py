"""Sinks of the outbox, listed in ``sync/registry.py``."""
