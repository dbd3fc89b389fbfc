"""Query parameters that are lists, in the forms in which clients send them."""

from typing import Annotated

import orjson
from fastapi import Query
from pydantic import Field

from headrace.errors import InvalidRequest

#: More values than any parameter can use.
MAX_QUERY_VALUES = 100

#: The raw values of a list parameter.
QueryList = Annotated[
    list[Annotated[str, Field(max_length=10_000)]] | None, Query(max_length=MAX_QUERY_VALUES)
]


def query_values(given: list[str] | None, name: str) -> list[str]:
    """The values of a list parameter.

    Clients repeat the key (Python), send one JSON array (JavaScript), or use commas (by hand).

    :raises InvalidRequest: a JSON array is invalid, or there are too many values.
    """
    values: list[str] = []
    for value in given or []:
        try:
            parsed = orjson.loads(value) if value.startswith("[") else value.split(",")
        except orjson.JSONDecodeError:
            raise InvalidRequest(f"{name}: not a JSON array") from None
        if len(values) + len(parsed) > MAX_QUERY_VALUES:
            raise InvalidRequest(f"{name}: at most {MAX_QUERY_VALUES} values are taken")
        values += [str(one).strip() for one in parsed]
    return [value for value in values if value]
