"""TOML documents with positions, declarative shapes and the problem record: for mapping files and for config.toml."""
