"""Implementations of the port ``his_db.engine``, one module per database engine. An engine never knows another."""
