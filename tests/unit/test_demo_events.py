"""The events that came with the repository: all of them, each one that the API would take."""

from __future__ import annotations

import gzip
from collections import Counter

from cli.demo import EVENTS, Event, read_events
from shared.scores import MAX_SCORE, parse_delta, parse_season_id, parse_user_id


def test_all_events_are_there_and_valid():
    events = list(read_events(EVENTS))
    assert len(events) == 60_746
    for season_id, user_id, delta in events:
        parse_season_id(season_id), parse_user_id(user_id), parse_delta(delta)


def test_every_season_fits_the_one_board_that_the_demo_compares():
    totals = Counter()
    for season_id, user_id, delta in read_events(EVENTS):
        totals[season_id, user_id] += delta
    assert all(abs(total) <= MAX_SCORE for total in totals.values())
    first, *_, last = years = sorted({int(season_id) for season_id, _ in totals})
    assert years == list(range(first, last + 1))


def test_rows_become_events_in_the_order_of_the_file(tmp_path):
    file = tmp_path / "events.csv.gz"
    file.write_bytes(
        gzip.compress(
            "season,user_id,delta,occurred_at\n2024,zoë,5,2024-01-01T00:00:00Z\n2023,ann,-2,2023-01-01T00:00:00Z\n".encode()
        )
    )
    assert list(read_events(file)) == [Event("2024", "zoë", 5), Event("2023", "ann", -2)]
