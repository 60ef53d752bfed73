"""Pure rules need no servers, and no stopwatch either: a busy machine is not a failing test."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
