"""How long to wait after a failure: pure arithmetic, the random draw comes in as an argument."""

from __future__ import annotations


def backoff_seconds(failures: int, draw: float, *, first: float = 0.05, ceiling: float = 2.0) -> float:
    """Exponential back-off with equal jitter: between half and all of `first * 2^(failures-1)`, at most `ceiling`.

    `failures` counts from 1; `draw` is uniform in [0, 1). Half is kept fixed so that a retry is never immediate
    ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    full: float = min(ceiling, first * 2 ** min(failures - 1, 30))
    return full * (0.5 + draw / 2)
