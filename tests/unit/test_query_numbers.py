"""`limit` and `range` in a query string: a decimal number within its bounds, or 400."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.endpoint import user_id_in, whole_number_in
from shared.errors import InvalidRequestError


def limit_in(query):
    return whole_number_in(query, "limit", default=10, lowest=1, highest=1000)


def refused(query):
    with pytest.raises(InvalidRequestError) as caught:
        limit_in(query)
    assert (caught.value.status, caught.value.code) == (400, "invalid_limit")
    return caught.value.message


def test_absent_means_the_default():
    assert limit_in({}) == limit_in({"range": "7"}) == 10


@given(st.integers())
def test_within_the_bounds_or_refused(number):
    if 1 <= number <= 1000:
        assert limit_in({"limit": str(number)}) == number
    else:
        assert "from 1 to 1000" in refused({"limit": str(number)})


@given(st.text())
def test_any_other_text_is_refused(text):
    if not (text.isascii() and text.isdigit()):
        refused({"limit": text})


@pytest.mark.parametrize("text", ["", " ", "1 ", "+1", "-1", "1.0", "1e2", "0x10", "٣", "²", "1_0", "9" * 10_000])
def test_near_misses(text):
    assert len(refused({"limit": text})) < 200


def test_zero_where_it_is_allowed():
    assert whole_number_in({"range": "0"}, "range", default=5, lowest=0, highest=100) == 0


def test_a_missing_player_is_told_what_is_missing():
    with pytest.raises(InvalidRequestError, match="userId is required"):
        user_id_in({})
    assert user_id_in({"userId": "ann"}) == "ann"
