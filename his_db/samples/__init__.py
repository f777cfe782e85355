"""The sample HIS databases, one module family per vendor."""
