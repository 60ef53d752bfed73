"""Redis in the model: boards, and the scripts APPLY, PATCH, SWAP and INSPECT as functions from a board to a board.

test_conformance.py holds them against the Lua of `shared.scripts`. A board is never changed in place, so that a
roll-back of Redis is a look into its history.
"""

from __future__ import annotations

from typing import NamedTuple

from model.rules import RIGHT, Rules

from shared.projection import Answer, Stored


class Board(NamedTuple):
    """Five numbers of the meta hash, and the sorted set: player → score."""

    timeline: int
    epoch: int
    token: int
    base: int
    noted: int
    players: dict[int, int]


class Update(NamedTuple):
    """One transaction's effect on one season. `changes`: player → absolute score, None = not on the board."""

    season: int
    timeline: int
    epoch: int
    prev: int
    token: int
    changes: dict[int, int | None]


EMPTY = Board(0, 0, 0, 0, 0, {})


def stored(board: Board) -> Stored:
    return Stored(*board[:5], len(board.players))


def inspect(board: Board) -> tuple[str, Board]:
    return "stored", board


def apply(board: Board, update: Update, rules: Rules = RIGHT) -> tuple[str, Board]:
    timeline, epoch, token, base, noted, players = board
    _, our_timeline, our_epoch, prev, our_token, changes = update
    if timeline > our_timeline or (timeline == our_timeline and epoch > our_epoch):
        return "late", board
    same = timeline == our_timeline and epoch == our_epoch
    if same and ((token >= our_token and rules.refuses_late) or (base > prev and rules.base)):
        return "late", board
    first = prev == 0 and not players and timeline == epoch == token == base == noted == 0
    if not first and (
        timeline < our_timeline
        or epoch < our_epoch
        or (token < prev and rules.chain)
        or (token > prev and base != prev and rules.base)
        or (noted != len(players) and rules.count)
    ):
        return "behind", board
    return "applied", _written(update, _changed(players, changes, rules))


def patch(
    board: Board, update: Update, seen: Stored, changes: dict[int, int | None], rules: Rules = RIGHT
) -> tuple[str, Board]:
    if rules.second_check and stored(board) != seen:
        return "moved", board
    patched = update._replace(timeline=seen.timeline, epoch=seen.epoch)
    return "applied", _written(patched, _changed(board.players, changes, RIGHT))


def swap(
    board: Board,
    update: Update,
    seen: Stored,
    staging: dict[tuple[int, int], dict[int, int]],
    staged: int,
    rules: Rules = RIGHT,
) -> tuple[str, Board]:
    key = update.season, update.token
    players = staging.get(key, {})
    if (rules.second_check and stored(board) != seen) or len(players) != staged:
        return "moved", board
    staging.pop(key, None)
    return "applied", _written(update, players)


def _changed(players: dict[int, int], changes: dict[int, int | None], rules: Rules) -> dict[int, int]:
    players = players.copy()
    for player, score in changes.items():
        if score is None:
            players.pop(player, None)
        else:
            players[player] = score if rules.absolute else players.get(player, 0) + score
    return players


def _written(update: Update, players: dict[int, int]) -> Board:
    return Board(update.timeline, update.epoch, update.token, update.prev, len(players), players)


class Redis:
    """The boards of all seasons, every state that they were ever in, and scripts that are still on their way."""

    __slots__ = ("boards", "history", "on_their_way", "staging", "verdicts")

    def __init__(self, seasons: int, verdicts: dict[str, int]) -> None:
        self.boards = [EMPTY] * seasons
        self.history = [tuple(self.boards)]
        self.staging: dict[tuple[int, int], dict[int, int]] = {}
        self.on_their_way: list[tuple] = []
        self.verdicts = verdicts

    def run(self, script, season, *arguments) -> Answer:
        before = self.boards[season]
        verdict, after = script(before, *arguments)
        self.verdicts[verdict] += 1
        if after is not before:
            self.put(season, after)
        return Answer(verdict, stored(after))

    def put(self, season: int, board: Board) -> None:
        self.boards[season] = board
        self.history.append(tuple(self.boards))
