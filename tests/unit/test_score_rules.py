"""Every bound of the wire contract on season ids, player ids and deltas."""

from __future__ import annotations

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequestError
from shared.scores import MAX_SCORE, parse_delta, parse_season_id, parse_user_id

SEASON_ALPHABET = string.ascii_letters + string.digits + "._:-"
CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]

season_ids = st.text(SEASON_ALPHABET, min_size=1, max_size=64)
user_ids = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=128)


def refused(parse, value, code):
    with pytest.raises(InvalidRequestError) as caught:
        parse(value)
    assert (caught.value.status, caught.value.code) == (400, code)
    return caught.value.message


@given(season_ids)
def test_a_season_id_of_the_alphabet_is_taken_as_it_is(text):
    assert parse_season_id(text) == text


@given(season_ids, st.characters(), st.integers(0, 64))
def test_a_season_id_with_any_other_character_is_refused(text, character, at):
    if character not in SEASON_ALPHABET:
        refused(
            parse_season_id, (text[:at] + character + text[at:])[:64] if at < 64 else character, "invalid_season_id"
        )


@pytest.mark.parametrize("text", ["", "s" * 65, "a\n", "\na", "a b", "a/b", "{a}", "ä", "²", "٣", "a\x00"])
def test_other_season_ids_are_refused_and_told_the_rule(text):
    assert "1 to 64 characters of A-Z a-z 0-9 . _ : -" in refused(parse_season_id, text, "invalid_season_id")


@pytest.mark.parametrize("text", ["s", "s" * 64, "game:7", ".", "-", "A.b_C:d-9"])
def test_season_ids_at_the_bounds(text):
    assert parse_season_id(text) == text


@given(user_ids)
def test_a_user_id_without_control_characters_is_taken_as_it_is(text):
    assert parse_user_id(text) == text


@pytest.mark.parametrize("text", ["u", "u" * 128, "😀" * 128, " ", "\u2028", "Zoë", "'; drop table seasons; --", "{}"])
def test_user_ids_at_the_bounds(text):
    assert parse_user_id(text) == text


@pytest.mark.parametrize("text", ["", "u" * 129, "😀" * 129])
def test_an_empty_or_too_long_user_id_is_refused(text):
    refused(parse_user_id, text, "invalid_user_id")


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: f"U+{ord(control):04X}")
def test_no_control_character_anywhere_in_a_user_id(control):
    assert unicodedata.category(control) == "Cc"
    for text in (control, f"a{control}", f"{control}a", f"a{control}b"):
        assert "control" in refused(parse_user_id, text, "invalid_user_id")


@given(st.integers(0xD800, 0xDFFF))
def test_a_lone_surrogate_is_no_character(code):
    refused(parse_user_id, f"a{chr(code)}", "invalid_user_id")


@given(st.integers(-MAX_SCORE, MAX_SCORE).filter(bool))
def test_a_delta_within_the_bounds_is_taken_and_a_double_holds_it(delta):
    assert parse_delta(delta) == delta == int(float(delta))


@given(st.integers(min_value=MAX_SCORE + 1), st.sampled_from([1, -1]))
def test_a_delta_beyond_the_bounds_is_refused(size, sign):
    assert str(MAX_SCORE) in refused(parse_delta, size * sign, "invalid_delta")


def test_the_bounds_themselves():
    assert MAX_SCORE == 9_007_199_254_740_991
    assert [parse_delta(delta) for delta in (MAX_SCORE, -MAX_SCORE, 1, -1)] == [MAX_SCORE, -MAX_SCORE, 1, -1]
    assert "zero" in refused(parse_delta, 0, "invalid_delta")
    refused(parse_delta, 2**53, "invalid_delta")
    refused(parse_delta, -(2**53), "invalid_delta")
