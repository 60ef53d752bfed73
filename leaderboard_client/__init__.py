"""A client of the service for game back ends in Python. It imports nothing of the service: the folder can be copied."""

from __future__ import annotations

from leaderboard_client.answers import (
    Accepted,
    Aggregation,
    Around,
    AroundScore,
    Order,
    Player,
    PlayerRank,
    Rank,
    Ranks,
    Result,
    Season,
    SeasonRank,
    Ties,
    Top,
    Window,
)
from leaderboard_client.bodies import Score
from leaderboard_client.exchange import LeaderboardError
from leaderboard_client.leaderboard import Leaderboard

__all__ = [
    "Accepted",
    "Aggregation",
    "Around",
    "AroundScore",
    "Leaderboard",
    "LeaderboardError",
    "Order",
    "Player",
    "PlayerRank",
    "Rank",
    "Ranks",
    "Result",
    "Score",
    "Season",
    "SeasonRank",
    "Ties",
    "Top",
    "Window",
]
