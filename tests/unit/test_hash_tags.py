"""All keys of a season lie in one slot of a cluster, whatever the season is called."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from shared import keys

season_ids = st.text(string.ascii_letters + string.digits + "._:-", min_size=1, max_size=64)


def test_the_names_are_the_documented_ones():
    assert keys.board("s:1") == "lb:{s:1}"
    assert keys.meta("s:1") == "lb:{s:1}:meta"
    assert keys.staging("s:1", 7) == "lb:{s:1}:staging:7"


@given(season_ids, st.integers(0, 2**63 - 1))
def test_one_slot_per_season(season_id, token):
    names = [keys.board(season_id), keys.meta(season_id), keys.staging(season_id, token)]
    assert {key_slot(name.encode()) for name in names} == {key_slot(season_id.encode())}


@given(season_ids, season_ids, st.integers(0, 2**63 - 1))
def test_keys_of_different_seasons_never_meet(one, other, token):
    names = [
        name
        for season_id in {one, other}
        for name in (keys.board(season_id), keys.meta(season_id), keys.staging(season_id, token))
    ]
    assert len(set(names)) == len(names)
