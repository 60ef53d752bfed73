"""Time windows: the boards that show what players reached within the last hours or days. Pure; no clock.

A score belongs to the minute of its time. It is in a window until the whole minute is older than the window, so for up
to a minute longer than the window is wide.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Window: TypeAlias = Literal["24h", "3d", "7d"]

HOURS: Final[dict[Window, int]] = {"24h": 24, "3d": 72, "7d": 168}
"""From the narrowest to the widest: who is in one is in those behind it too."""

WINDOWS: Final[tuple[Window, ...]] = tuple(HOURS)

BOARDS: Final[tuple[Window | None, ...]] = (None, *WINDOWS)
"""What a season with windows shows, in the order of `shared.standings.Standing`; None = of all time."""
