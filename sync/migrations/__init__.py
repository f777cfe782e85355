"""Revisions of the state store's schema, one module each, in the order of ``sync.registry.MIGRATIONS``."""
