"""The kinds of mapping, one module each; listed in `his_db/registry.py`, none knows another."""
