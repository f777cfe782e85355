"""One reader of the catalogue for each engine; listed in `his_db/catalogue/reader.py`, none knows another."""
