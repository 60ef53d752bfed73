"""PostgreSQL and Valkey from their PyPI wheels, run as a developer or a test needs them.

Over TCP, with passwords, as an unprivileged user, gone with the process that started them, back on the same data.

The wheels' own helpers are not used: only the programs they carry.
"""
