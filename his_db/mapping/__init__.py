"""The mapping language of docs/mapping.md: read, check, compile once; `his_db/kinds` runs it."""
