"""Wake-up signals by engine, for the port ``his_db/wake.py``."""
