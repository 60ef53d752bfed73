"""All keys of a season lie in one slot of a cluster, whatever the season is called."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from shared import keys
from shared.scores import GAME_RULES, PLAIN, Rules

season_ids = st.text(string.ascii_letters + string.digits + "._:-", min_size=1, max_size=64)


def test_the_names_are_the_documented_ones():
    assert keys.board("s:1") == "lb:{s:1}"
    assert keys.meta("s:1") == "lb:{s:1}:meta"
    assert keys.shown("s:1", PLAIN) == ["lb:{s:1}"]
    assert keys.shown("s:1", PLAIN, 7) == ["lb:{s:1}:staging:7"]
    assert keys.shown("s:1", Rules(tie_break="earliest")) == ["lb:{s:1}", "lb:{s:1}:ties"]
    assert keys.shown("s:1", Rules(windows=True)) == ["lb:{s:1}", "lb:{s:1}:24h", "lb:{s:1}:3d", "lb:{s:1}:7d"]
    assert keys.shown("s:1", GAME_RULES)[2:4] == ["lb:{s:1}:24h", "lb:{s:1}:24h:ties"]


def names_of(season_id, token):
    return [keys.meta(season_id), *keys.all_shown(season_id), *keys.shown(season_id, GAME_RULES, token)]


@given(season_ids, st.integers(0, 2**63 - 1))
def test_one_slot_per_season(season_id, token):
    names = names_of(season_id, token)
    assert {key_slot(name.encode()) for name in names} == {key_slot(season_id.encode())}


@given(season_ids, season_ids, st.integers(0, 2**63 - 1))
def test_keys_of_different_seasons_never_meet(one, other, token):
    names = [name for season_id in {one, other} for name in names_of(season_id, token)]
    assert len(set(names)) == len(names)
