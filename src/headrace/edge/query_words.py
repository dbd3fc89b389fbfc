"""Words of a query as different clients write them."""

from typing import Annotated

import orjson
from fastapi import Query
from pydantic import Field

from headrace.errors import InvalidRequest

#: More than any parameter has different words.
MAX_WORDS = 100

#: A parameter as clients send it: one word, several, or a JSON array of them.
Words = Annotated[
    list[Annotated[str, Field(max_length=10_000)]] | None, Query(max_length=MAX_WORDS)
]


def words_in(given: list[str] | None, name: str) -> list[str]:
    """The key repeated (Python), one JSON array (JavaScript), or commas (by hand).

    :raises InvalidRequest: what looks like an array is none, or it has too many words.
    """
    words: list[str] = []
    for value in given or []:
        try:
            parsed = orjson.loads(value) if value.startswith("[") else value.split(",")
        except orjson.JSONDecodeError:
            raise InvalidRequest(f"{name}: not a JSON array") from None
        if len(words) + len(parsed) > MAX_WORDS:
            raise InvalidRequest(f"{name}: at most {MAX_WORDS} words, please")
        words += [str(word).strip() for word in parsed]
    return [word for word in words if word]
