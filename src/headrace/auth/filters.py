"""Filters of ``auth.on`` handlers, as conditions on metadata for Postgres's ``@>``."""

from collections.abc import Mapping
from typing import Any

import orjson

_EQUAL, _CONTAINS = "$eq", "$contains"


class WrongFilter(Exception):
    """A handler has returned a filter that cannot be applied."""


def compiled(given: Mapping[Any, Any]) -> dict[str, Any]:
    """What the metadata of each row must contain.

    ``{"owner": "ada"}`` and ``{"owner": {"$eq": "ada"}}`` want this value; ``{"members":
    {"$contains": "ada"}}`` wants a list with it, or with all of a list.

    :raises WrongFilter: there is no such filter.
    """
    found = {}
    for key, wanted in given.items():
        if not isinstance(key, str):
            raise WrongFilter(f"a filter has the key {key!r}; keys are texts")
        found[key] = _condition(key, wanted)
    try:
        values: dict[str, Any] = orjson.loads(orjson.dumps(found))
    except (TypeError, ValueError) as error:
        raise WrongFilter(f"a filter has a value that is not of JSON ({error})") from None
    return values


def _condition(key: str, wanted: Any) -> Any:
    if not isinstance(wanted, Mapping):
        return wanted
    operators = [one for one in wanted if isinstance(one, str) and one.startswith("$")]
    if not operators:
        return wanted
    if len(wanted) > 1 or operators[0] not in (_EQUAL, _CONTAINS):
        raise WrongFilter(
            f"the filter of {key!r} has {', '.join(map(str, wanted))}; write one of"
            f" {_EQUAL} and {_CONTAINS}"
        )
    value = wanted[operators[0]]
    if operators[0] == _EQUAL:
        return value
    parts = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    if not parts:
        # Every list contains all of nothing: the handler would let its caller see all rows.
        raise WrongFilter(f"the filter of {key!r} has {_CONTAINS} of an empty list")
    return parts


def with_filter(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a new row that a filter finds: its caller must see what it makes."""
    merged = dict(metadata)
    for key, value in wanted.items():
        present = merged.get(key)
        if isinstance(value, list) and isinstance(present, list):
            merged[key] = [*present, *(one for one in value if one not in present)]
        else:
            merged[key] = value
    return merged
