"""Becoming a service of the operating system: systemd, the Windows service manager, the offline bundle."""
