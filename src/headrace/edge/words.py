"""Words of a query as different clients write them."""

import orjson

from headrace.errors import InvalidRequest


def words_in(given: list[str] | None, name: str) -> list[str]:
    """The key repeated (Python), one JSON array (JavaScript), or commas (by hand).

    :raises InvalidRequest: what looks like an array is none.
    """
    words: list[str] = []
    for value in given or []:
        try:
            parsed = orjson.loads(value) if value.startswith("[") else value.split(",")
        except orjson.JSONDecodeError:
            raise InvalidRequest(f"{name}: not a JSON array") from None
        words += [str(word).strip() for word in parsed]
    return [word for word in words if word]
