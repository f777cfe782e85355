"""Subcommands of ``his160``, one module each, listed in ``registry.py``; ``main(arguments) -> exit code``."""
