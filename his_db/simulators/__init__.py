"""Simulators of payment houses and insurance platforms. Port: `his_db/simulator.py`."""
