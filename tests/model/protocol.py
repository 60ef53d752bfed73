"""The protocol as jobs, step by step: batch, audit, reset, discard. Read beside docs/reliability.md.

A job is a generator; where it yields, anything may happen before it goes on. It ends by returning, or by one of
TROUBLE: then its session is ended and the transaction rolled back.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

from model.boards import Update, apply, inspect, patch, swap
from model.client import Client, LateError, LockTimeoutError, RedisLostError, SeasonUnreachableError, Steps
from model.database import Session
from model.rules import Rules

from shared.projection import Answer, Stored
from shared.reconciliation import fits
from shared.seasons import Fence

PATCH_LIMIT = 3
"""Stands for 5,000: more standings than that are not patched, and no batch rebuilds a board of more."""

ATTEMPTS = 5


def batch(client: Client, limit: int) -> Steps:
    """What the worker's loop does in a turn: apply a batch; pass a token that ran ahead of it."""
    try:
        yield from apply_batch(client, limit)
    except LateError as error:
        yield "rolled back"
        yield from pass_late(client, error)


def apply_batch(client: Client, limit: int) -> Steps:
    rules, events = client.rules, client.world.events
    session = client.begin()
    claimed = session.claim(limit)
    if not claimed:
        return
    mask = session.claimed
    yield "claimed"
    if not rules.done_with_batch:
        session.done |= mask
        client.commit()
        yield "marked done"
        session = client.begin()
    season_ids = sorted({events[event_id].season for event_id in claimed})
    if not rules.fold_after_lock:
        session.snapshot = session.state()
    early = {} if rules.token_under_lock else {season: session.next_token(season) for season in season_ids}
    fences = yield from lock(client, session, season_ids)
    yield "locked"
    for season in season_ids:
        session.advance(season)
    session.tokens.update(early)
    failed = fold(session, events, claimed)
    session.failed |= failed
    session.done |= mask & ~failed
    yield "folded and marked"
    yield from project(client, session, [update_of(session, fence) for fence in fences], rebuild_large=False)
    yield "shown"
    client.commit()


def lock(client: Client, session: Session, season_ids: Iterable[int]) -> Generator[str, None, list[Fence]]:
    """In id order; each row as the one before us committed it."""
    fences = []
    for season in season_ids:
        while not session.lock(season):
            yield "waits for a lock"
            if client.world.waited_too_long():
                raise LockTimeoutError
        fences.append(session.db.fence(season, client.rules))
    return fences


def fold(session: Session, events, event_ids: list[int]) -> int:
    """Fold the events; where the database refuses, halve. Returns the events set aside, as bits."""
    if session.fold(events, event_ids):
        return 0
    if len(event_ids) == 1:
        if session.rules.sends_dropped:
            session.touch(events[event_ids[0]])
        return 1 << event_ids[0]
    middle = len(event_ids) // 2
    return fold(session, events, event_ids[:middle]) | fold(session, events, event_ids[middle:])


def update_of(session: Session, fence: Fence) -> Update:
    season, epoch, prev, timeline = fence[:4]
    changes = {player: score for player, (score, _) in session.changes.get(season, {}).items()}
    return Update(season, timeline, epoch, prev, session.tokens[season], changes)


def project(client: Client, session: Session, updates: list[Update], *, rebuild_large: bool) -> Steps:
    """Show the updates under their seasons' locks, and repair the boards that turn out to be behind."""
    failure: Exception | None = None
    answers: list[Answer | None] = []
    for update in updates:
        try:
            answers.append((yield from client.send(apply, update.season, sent(client, session, update), client.rules)))
        except RedisLostError as error:
            failure = error
            answers.append(None)
    for update, answer in zip(updates, answers, strict=True):
        if answer is not None:
            try:
                yield from settle(client, session, update, answer, rebuild_large=rebuild_large)
            except (RedisLostError, SeasonUnreachableError) as error:
                failure = error
            except LateError as error:
                error.seasons = [written.season for written in updates]
                raise
    if failure is not None:
        raise failure


def pass_late(client: Client, error: LateError) -> Steps:
    """Put the tokens of all that the refused transaction wrote to beyond what their boards carry."""
    failure: Exception | None = None
    for season in error.seasons:
        try:
            yield from reconcile(client, season)
        except (LateError, SeasonUnreachableError, LockTimeoutError) as reason:
            failure = reason
    if failure is not None:
        raise failure


def sent(client: Client, session: Session, update: Update) -> Update:
    """The update as it goes out: absolute scores, unless the variant is the one that adds."""
    if client.rules.absolute:
        return update
    before = session.db.state.seasons[update.season].standings
    deltas = {
        player: None if score is None else score - (before.get(player, (0, 0))[0] or 0)
        for player, score in update.changes.items()
    }
    return update._replace(changes=deltas)


def settle(client: Client, session: Session, update: Update, answer: Answer, *, rebuild_large: bool) -> Steps:
    for _ in range(ATTEMPTS):
        if answer.verdict == "applied":
            return
        if answer.verdict == "late":
            seen = answer.stored
            if (seen.timeline, seen.epoch) > (update.timeline, update.epoch):
                raise SeasonUnreachableError
            raise LateError(update.season)
        if answer.verdict == "behind":
            answer = yield from repair(client, session, update, answer.stored, rebuild_large=rebuild_large)
        else:
            answer = yield from client.send(apply, update.season, sent(client, session, update), client.rules)
    raise SeasonUnreachableError


def repair(
    client: Client, session: Session, update: Update, seen: Stored, *, rebuild_large: bool
) -> Generator[str, None, Answer]:
    season, rules = update.season, client.rules
    standings = session.standings(season)
    yield "standings read"
    whole = (
        seen.timeline == update.timeline
        and seen.epoch == update.epoch
        and seen.noted == seen.members
        and seen.token > 0
    )
    if whole or not rules.patches_only_whole:
        since = seen.base if rules.base else seen.token
        changed = {player: score for player, (score, token) in standings.items() if token > since}
        if len(changed) <= PATCH_LIMIT or not rules.patches_only_whole:
            return (yield from client.send(patch, season, update, seen, changed, rules))
    if not rebuild_large and len(standings) > PATCH_LIMIT:
        raise SeasonUnreachableError
    players = {player: score for player, (score, _) in standings.items() if score is not None}
    staging = client.world.redis.staging
    staging[season, update.token] = players
    answer = yield from client.send(swap, season, update, seen, staging, len(players), rules)
    if answer.verdict != "applied":
        staging.pop((season, update.token), None)
    return answer


def reconcile(client: Client, season: int, *, locked: bool = True) -> Steps:
    """Make the board equal to the season's standings, under its lock: a batch without events."""
    session = client.begin()
    if locked:
        (fence,) = yield from lock(client, session, [season])
    else:
        fence = session.db.fence(season, client.rules)
        yield "fence read"
        yield from lock(client, session, [season])  # by the update that takes the token
    session.advance(season)
    yield "locked"
    update = update_of(session, fence)
    try:
        yield from project(client, session, [update], rebuild_large=True)
    except LateError:
        # A transaction whose clock ran ahead wrote and never committed.
        answer = yield from client.send(inspect, season)
        if answer.stored.base > fence.token and client.rules.base:
            raise SeasonUnreachableError from None
        token = session.advance_beyond(season, answer.stored.token)
        yield "token taken beyond the stored one"
        yield from project(client, session, [update._replace(token=token)], rebuild_large=True)
    yield "shown"
    client.commit()


def audit(client: Client, season: int) -> Steps:
    """Compare without locks, PostgreSQL first; look closer under the lock where they differ."""
    fence = client.begin().db.fence(season, client.rules)
    if fence.token == 0 and not client.rules.audits_all:
        return
    yield "fence read"
    answer = yield from client.send(inspect, season)
    if not in_order(fence, answer.stored, client.rules):
        yield from reconcile(client, season, locked=client.rules.audit_locks)


def in_order(fence: Fence, seen: Stored, rules: Rules) -> bool:
    """`shared.reconciliation.fits`; a variant without a rule does not look at its number either."""
    if not rules.count:
        seen = seen._replace(noted=seen.members)
    if not rules.base and seen.token > fence.token:
        fence = fence._replace(token=seen.token)
    return fits(fence, seen)


def reset(client: Client, season: int) -> Steps:
    session = client.begin()
    (fence,) = yield from lock(client, session, [season])
    session.begin_next_epoch(season)
    session.advance(season)
    yield "epoch begun"
    if not client.rules.reset_commits_first:
        update = update_of(session, fence)
        update = update._replace(epoch=update.epoch + 1)
        answer = yield from client.send(inspect, season)
        yield from client.send(swap, season, update, answer.stored, {}, 0, client.rules)
        yield "shown"
    client.commit()
    yield "reset committed"
    yield from reconcile(client, season)


def discard(client: Client, choice: float) -> Steps:
    """An operator drops an event that is pending or failed: a batch that never committed may have shown it."""
    session = client.begin()
    event_id = session.claim_dropped(choice)
    if event_id is None:
        return
    event = client.world.events[event_id]
    session.failed |= 1 << event_id
    yield "claimed"
    if client.rules.sends_dropped:
        (fence,) = yield from lock(client, session, [event.season])
        session.advance(event.season)
        session.touch(event)
        yield "touched"
        yield from project(client, session, [update_of(session, fence)], rebuild_large=True)
    yield "shown"
    client.commit()
