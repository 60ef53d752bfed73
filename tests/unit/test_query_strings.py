"""A query string is read as urllib reads it, whichever way it is read."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.endpoint import Call
from shared.errors import InvalidRequestError


def query_of(text):
    return Call({"query_string": text}, None).query()


@given(st.text(alphabet="ab=&%4+1.;", max_size=20))
def test_it_is_what_urllib_makes_of_it(text):
    try:
        expected = dict(parse_qsl(text, keep_blank_values=True, errors="strict"))
    except ValueError:
        with pytest.raises(InvalidRequestError):
            query_of(text.encode())
    else:
        assert query_of(text.encode()) == expected


def test_more_than_32_parameters_are_refused():
    assert len(query_of(b"&".join(b"a%d=1" % number for number in range(32)))) == 32
    for text in (b"&".join([b"a=1"] * 33), b"&" * 32):
        with pytest.raises(InvalidRequestError, match="32 parameters"):
            query_of(text)


def test_what_is_not_ascii_is_refused():
    with pytest.raises(InvalidRequestError):
        query_of(b"userId=\xe4")
