"""Batches as they come over the wire: what is an item, what is none, and that the quick way is the thorough one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.batch_format import MAX_ITEMS, ItemResult, read_array, read_lines
from shared.errors import InvalidRequestError
from shared.scores import (
    MAX_SCORE,
    Score,
    all_acceptable,
    parse_delta,
    parse_idempotency_key,
    parse_user_id,
)

ANN = {"userId": "ann", "delta": 5}
READERS = {"array": read_array, "lines": read_lines}


def written(way, items):
    return json.dumps(items).encode() if way == "array" else b"\n".join(json.dumps(item).encode() for item in items)


def read(way, *items):
    return READERS[way]("s", written(way, items))


def code_of(item):
    return item.code if isinstance(item, ItemResult) else None


@pytest.fixture(params=READERS)
def way(request):
    return request.param


def refused_as(way, body):
    with pytest.raises(InvalidRequestError) as caught:
        READERS[way]("s", body)
    return caught.value.code, caught.value.message


def test_items_come_in_order(way):
    assert read(way, ANN, {"userId": "Zoë", "delta": -1, "eventId": "k"}, {**ANN, "eventId": None}) == [
        Score("s", "ann", 5),
        Score("s", "Zoë", -1, "k"),
        Score("s", "ann", 5),
    ]


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({"userId": "", "delta": 5}, "invalid_user_id"),
        ({"userId": "x" * 129, "delta": 5}, "invalid_user_id"),
        ({"userId": "a\x1fb", "delta": 5}, "invalid_user_id"),
        ({"userId": "ann", "delta": 0}, "invalid_delta"),
        ({"userId": "ann", "delta": MAX_SCORE + 1}, "invalid_delta"),
        ({"userId": "ann", "delta": -MAX_SCORE - 1}, "invalid_delta"),
        ({**ANN, "eventId": ""}, "invalid_idempotency_key"),
        ({**ANN, "eventId": "x" * 129}, "invalid_idempotency_key"),
        ({**ANN, "eventId": "a b"}, "invalid_idempotency_key"),
        ({**ANN, "eventId": 7}, "invalid_body"),
        ({"userId": "ann", "delta": 1.5}, "invalid_body"),
        ({"userId": "ann", "delta": "5"}, "invalid_body"),
        ({"userId": "ann", "delta": 2**70}, "invalid_delta"),
        ({"userId": "ann"}, "invalid_body"),
        ({**ANN, "extra": 1}, "invalid_body"),
        (7, "invalid_body"),
        (None, "invalid_body"),
        ([ANN], "invalid_body"),
    ],
)
def test_a_bad_item_fails_itself_alone(way, item, code):
    found = read(way, ANN, item, ANN)
    assert [code_of(each) for each in found] == [None, code, None]
    assert found[1].error
    assert found[0] == found[2] == Score("s", "ann", 5)


def test_a_key_in_quotes_is_the_same_key(way):
    assert read(way, {**ANN, "eventId": '"k"'}, ANN) == [Score("s", "ann", 5, "k"), Score("s", "ann", 5)]


def test_1_to_5000_items(way):
    assert len(read(way, ANN)) == 1
    assert len(read(way, *[ANN] * MAX_ITEMS)) == MAX_ITEMS
    for items in ([ANN] * (MAX_ITEMS + 1), [7] * (MAX_ITEMS + 1)):
        code, message = refused_as(way, written(way, items))
        assert code == "invalid_body"
        assert "1 to 5000" in message
        assert "5001" in message
    assert refused_as(way, written(way, []))[0] == "invalid_body"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b'[{"userId":"ann","delta":5},', "invalid_json"),
        (b'[{"userId":"ann","delta":5}{"userId":"ann","delta":5}]', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"userId":"ann","delta":5}', "invalid_body"),
        (b"null", "invalid_body"),
    ],
)
def test_what_is_no_array_is_refused(body, code):
    assert refused_as("array", body)[0] == code


def test_far_too_many_values_are_counted_without_taking_them_apart(monkeypatch):
    monkeypatch.setattr("api.batch_format._RAW_LIST", None)
    for body in (b"[" + b"1," * 200_000 + b"1]", b"[" + b'"\\"",' * 200_000 + b'"'):
        code, message = refused_as("array", body)
        assert code == "invalid_body"
        assert "20000" in message


def test_commas_in_strings_are_no_values():
    many = json.dumps([{"userId": "," * 128, "delta": 1}] * 1000 + [7]).encode()
    assert [code_of(item) for item in read_array("s", many)] == [None] * 1000 + ["invalid_body"]


def test_an_item_that_is_no_utf8_fails_itself_alone():
    good = json.dumps(ANN).encode()
    assert [code_of(item) for item in read_array("s", b'[{"userId":"\xff","delta":5},' + good + b"]")] == [
        "invalid_json",
        None,
    ]
    assert [code_of(item) for item in read_lines("s", b'{"userId":"\xff","delta":5}\n' + good)] == [
        "invalid_json",
        None,
    ]


def test_lines_may_be_blank_and_end_as_on_windows():
    line = json.dumps(ANN).encode()
    for body in (line, line + b"\n", b"\n \t\r\n" + line + b"\r\n\r\n", b"\r\n" + line + b"  \r\n"):
        assert read_lines("s", body) == [Score("s", "ann", 5)]
    for nothing in (b"", b"\n", b" \r\n\n"):
        assert refused_as("lines", nothing)[0] == "invalid_body"


@pytest.mark.parametrize("line", [b"garbage", b"{", b'{"userId":"ann","delta":5},', b"\xff"])
def test_a_line_that_is_no_json_fails_itself_alone(line):
    good = json.dumps(ANN).encode()
    found = read_lines("s", b"\n".join([good, line, good]))
    assert [code_of(item) for item in found] == [None, "invalid_json", None]


def test_a_line_is_one_item():
    good = json.dumps(ANN).encode()
    assert [code_of(item) for item in read_lines("s", good + b" " + good)] == ["invalid_json"]
    over_two = read_lines("s", b'{"userId":"ann",\n"delta":5}')
    assert [code_of(item) for item in over_two] == ["invalid_json", "invalid_body"]


def each_acceptable(user_ids, deltas, keys):
    try:
        return (
            [parse_user_id(user_id) for user_id in user_ids] == user_ids
            and [parse_delta(delta) for delta in deltas] == deltas
            and [parse_idempotency_key(key) for key in keys] == keys
        )
    except InvalidRequestError:
        return False


user_ids = st.one_of(st.text(max_size=4), st.sampled_from(["u" * 128, "u" * 129, "😀" * 128, "\ud800", "\x85", "a"]))
deltas = st.one_of(st.integers(-2, 2), st.sampled_from([MAX_SCORE, -MAX_SCORE, MAX_SCORE + 1, -MAX_SCORE - 1]))
keys = st.one_of(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7F).filter('"'.__ne__), max_size=4),
    st.sampled_from(["k" * 128, "k" * 129, '"k"', '"', "é"]),
)


@given(st.lists(user_ids, max_size=3), st.lists(deltas, max_size=3), st.lists(keys, max_size=3))
def test_all_together_are_acceptable_where_each_is(some_user_ids, some_deltas, some_keys):
    together = all_acceptable(some_user_ids, some_deltas, some_keys)
    each = each_acceptable(some_user_ids, some_deltas, some_keys)
    assert together == each or (each and any('"' in key for key in some_keys))
