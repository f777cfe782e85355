"""Service systems, one a module, listed in ``service_install/registry.py``."""
