"""Filters of ``auth.on`` handlers, as conditions on metadata for Postgres."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

import orjson

from headrace.auth.principal import Principal

_EQUAL, _CONTAINS = "$eq", "$contains"


class WrongFilter(Exception):
    """A handler has returned a filter that cannot be applied."""


class Compiled(NamedTuple):
    """A filter, as :class:`Principal` has it."""

    filter: Mapping[str, Any]
    equal: frozenset[str]


def compiled(given: Mapping[Any, Any]) -> Compiled:
    """What the metadata of each row must have.

    ``{"owner": "ada"}`` and ``{"owner": {"$eq": "ada"}}`` want this value; ``{"members":
    {"$contains": "ada"}}`` wants a list with it, or with all of a list.

    :raises WrongFilter: there is no such filter.
    """
    found, contains = {}, set()
    for key, wanted in given.items():
        if not isinstance(key, str):
            raise WrongFilter(f"a filter has the key {key!r}; keys are texts")
        operator, value = _condition(key, wanted)
        if operator == _CONTAINS:
            contains.add(key)
        found[key] = value
    try:
        # A dataclass could have numbers that nobody has looked at.
        text = orjson.dumps(found, option=orjson.OPT_PASSTHROUGH_DATACLASS)
        values: dict[str, Any] = orjson.loads(text)
    except (TypeError, ValueError) as error:
        raise WrongFilter(f"a filter has a value that is not of JSON ({error})") from None
    if not _is_finite(found):
        raise WrongFilter("a filter has a number that is not of JSON (NaN or Infinity)")
    equal = (key for key, value in values.items() if isinstance(value, list | dict))
    return Compiled(values, frozenset(equal) - contains)


def _condition(key: str, wanted: Any) -> tuple[str, Any]:
    """The operator and its value."""
    if not isinstance(wanted, Mapping):
        return _EQUAL, wanted
    operators = [one for one in wanted if isinstance(one, str) and one.startswith("$")]
    if not operators:
        return _EQUAL, wanted
    if len(wanted) > 1 or operators[0] not in (_EQUAL, _CONTAINS):
        raise WrongFilter(
            f"the filter of {key!r} has {', '.join(map(str, wanted))}; write one of"
            f" {_EQUAL} and {_CONTAINS}"
        )
    value = wanted[operators[0]]
    if operators[0] == _EQUAL:
        return _EQUAL, value
    parts = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    if not parts:
        # Every list contains all of nothing: the handler would let its caller see all rows.
        raise WrongFilter(f"the filter of {key!r} has {_CONTAINS} of an empty list")
    if any(isinstance(one, list | tuple | Mapping) for one in parts):
        # Postgres looks for a part of it: each list with an object contains {}.
        raise WrongFilter(
            f"the filter of {key!r} has {_CONTAINS} of a list or an object within a list; name"
            " texts, numbers, true, false or null"
        )
    return _CONTAINS, parts


def _is_finite(value: Any) -> bool:
    """Whether JSON has each number of a value. Not as null: rows may have that."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, float) and not isfinite(one):
            return False
        if isinstance(one, Mapping):
            left += one.values()
        elif isinstance(one, list | tuple):
            left += one
    return True


def with_filter(metadata: Mapping[str, Any], principal: Principal) -> dict[str, Any]:
    """The metadata of a new row that the caller's filter finds: it must see what it makes."""
    merged = dict(metadata)
    for key, value in principal.filter.items():
        present = merged.get(key)
        if isinstance(value, list) and isinstance(present, list) and key not in principal.equal:
            merged[key] = [*present, *(one for one in value if not _is_in(present, one))]
        else:
            merged[key] = value
    return merged


def _is_in(values: list[Any], wanted: Any) -> bool:
    """As JSON sees it: 1 is not true."""
    return any(
        one == wanted and isinstance(one, bool) == isinstance(wanted, bool) for one in values
    )
