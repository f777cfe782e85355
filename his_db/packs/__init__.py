"""Data folders, one per HIS vendor: mapping TOML, SQL, README, the sample HIS."""
