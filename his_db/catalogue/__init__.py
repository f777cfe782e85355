"""The live catalogue of a HIS database: what there is, and what our login may do with it. Reads only."""
