"""Commands over several systems, as data: one file for each command of the contract. Listed in ``sync/registry.py``."""
