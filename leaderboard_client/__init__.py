"""A client of the service for game back ends; docs/client.md says what it is asked, docs/api.md what is answered.

Whatever is asked is asked again where its trouble may pass: no answer, 502, 503, 504. A score has a key, with which it
counts once. All else has the same effect again, but for a reset, which takes along scores that came since. The folder
can be copied, to wherever you like: it needs httpx2 and msgspec, and nothing of the service.
"""

from __future__ import annotations

from .boards import Board, BoardCalls, Page, Player, Ties, View, Window
from .connection import LeaderboardError
from .exports import About, Export, ExportCalls, Place
from .moderation import Action, AuditEntry, Moderated, ModerationCalls
from .scores import BATCH_SCORES, Event, Result, Score, ScoreCalls, Sent, Stored
from .seasons import Aggregation, Ended, Epoch, Order, Rules, Season, SeasonCalls, TieBreak

__all__ = [
    "BATCH_SCORES",
    "About",
    "Action",
    "Aggregation",
    "AuditEntry",
    "Board",
    "Ended",
    "Epoch",
    "Event",
    "Export",
    "Leaderboard",
    "LeaderboardError",
    "Moderated",
    "Order",
    "Page",
    "Place",
    "Player",
    "Result",
    "Rules",
    "Score",
    "Season",
    "Sent",
    "Stored",
    "TieBreak",
    "Ties",
    "View",
    "Window",
]


class Leaderboard(SeasonCalls, ScoreCalls, BoardCalls, ModerationCalls, ExportCalls):
    """All calls over one connection pool: one for the whole process, of one event loop. Every call raises
    LeaderboardError. `attempts`: how often a request is sent at most."""
