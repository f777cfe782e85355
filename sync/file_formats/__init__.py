"""Readers of dropped files, each for the port ``sync/file_format.py``."""
