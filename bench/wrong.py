"""What makes a run fail: not a slow answer, but a wrong one."""

from __future__ import annotations


class BrokenError(Exception):
    """A wrong or failed answer, a lost score, a board that differs from the ledger; the message says which."""
