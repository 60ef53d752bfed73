"""How many files a process may have open, connections among them."""

from __future__ import annotations

import resource


def raise_limit() -> int:
    """Let this process open as many as its hard limit says; returns how many it may now.

    The soft limit is 1024 on many systems, for the sake of programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # a system that says "unlimited" and does not mean it
        return soft
    return hard
