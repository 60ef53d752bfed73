"""Requests as data: what is sent, the same to the service and to its reference, by whichever generator.

In a file for them: one request a line, method, path and body separated by tabs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench.population import Board

AROUND_RANGE: Final = 5


class Request(NamedTuple):
    method: str
    path: str
    body: str = ""

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    def encoded(self, host: str) -> bytes:
        """As HTTP/1.1, for a connection that is kept."""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: {host}\r\n"
        if self.body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(self.body.encode())}\r\n"
        return f"{head}\r\n{self.body}".encode()


Draw = Callable[[random.Random], Request]


def top(board: Board, limit: int) -> Draw:
    request = Request("GET", f"/v1/seasons/{board.season_id}/leaderboard/top?limit={limit}")
    return lambda _random: request


def rank(board: Board) -> Draw:
    return lambda source: rank_of(board.season_id, board.user_id(source.randrange(board.size)))


def around(board: Board) -> Draw:
    path = f"/v1/seasons/{board.season_id}/leaderboard/around?range={AROUND_RANGE}&userId="
    return lambda source: Request("GET", path + board.user_id(source.randrange(board.size)))


def point(board: Board) -> Draw:
    """One point for a player."""
    return lambda source: score(board.season_id, board.user_id(source.randrange(board.size)), 1)


def rank_of(season_id: str, user_id: str) -> Request:
    return Request("GET", f"/v1/seasons/{season_id}/leaderboard/rank?userId={user_id}")


def score(season_id: str, user_id: str, delta: int) -> Request:
    return Request("POST", f"/v1/seasons/{season_id}/scores", f'{{"userId":"{user_id}","delta":{delta}}}')


def one_of(draws: Sequence[Draw]) -> Draw:
    return lambda source: source.choice(draws)(source)


def mixed(reads: Draw, writes: Draw, write_share: float) -> Draw:
    return lambda source: (writes if source.random() < write_share else reads)(source)


def drawn(draw: Draw, seed: str, distinct: int) -> list[Request]:
    """Requests drawn by chance, the same for the same seed; one alone where all are equal."""
    source = random.Random(seed)
    requests = [draw(source) for _ in range(distinct)]
    return requests if len(set(requests)) > 1 else requests[:1]


def write_file(requests: Sequence[Request], path: Path) -> None:
    path.write_text("".join("\t".join(request) + "\n" for request in requests))


def read_file(path: Path) -> list[Request]:
    return [Request(*line.split("\t")) for line in path.read_text().splitlines()]
