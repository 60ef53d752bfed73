"""Names of a JSON document, as the API and the commands' --json write them."""

from __future__ import annotations


def camel(words: str) -> str:
    """`board wrong` → `boardWrong`."""
    first, *more = words.split()
    return first + "".join(word.capitalize() for word in more)
