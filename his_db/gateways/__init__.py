"""Gateways: protocol code for payment houses and insurance platforms. Port: `his_db/gateway.py`."""
