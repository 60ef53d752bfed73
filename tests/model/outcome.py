"""What a world holds: told step by step for a trace, and judged in the end."""

from __future__ import annotations

from collections import defaultdict


def divergence(world) -> str | None:
    """Every event must be done or failed, every board equal its standings, and these the ledger's counted sums."""
    state = world.primary.state
    if state.pending():
        return "events stay pending"
    counted = state.done & state.stored
    sums: list[dict[int, int]] = [defaultdict(int) for _ in range(len(state.seasons))]
    for event_id, (season, epoch, player, delta) in enumerate(world.events):
        if counted >> event_id & 1 and epoch == state.seasons[season].epoch:
            sums[season][player] += delta
    for season in range(len(state.seasons)):
        standings = {
            player: score for player, (score, _) in state.seasons[season].standings.items() if score is not None
        }
        board = world.redis.boards[season].players
        if standings != sums[season]:
            return f"season {season}: the ledger says {dict(sums[season])}, the standings {standings}"
        if board != standings:
            return f"season {season}: the standings are {standings}, the board shows {board}"
    return None


def changes_told(world, told: list[str], trace: list[str]) -> list[str]:
    """Add to the trace what PostgreSQL and the boards hold where that changed since `told`; returns what they hold."""
    state = world.primary.state
    pending = [(i, *event) for i, event in enumerate(world.events) if state.pending() >> i & 1]
    holds = [f"PostgreSQL: timeline {world.primary.timeline}, pending {pending}"]
    for season, (row, board) in enumerate(zip(state.seasons, world.redis.boards, strict=True)):
        holds += f"season {season}: {row}", f"board {season}: {board}"
    trace += [f"      {line}" for line in holds if line not in told]
    return holds
