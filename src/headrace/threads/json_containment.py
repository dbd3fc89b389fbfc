"""Containment of JSON as Postgres defines it for jsonb (``@>``), and values at paths.

Values come as graphs hold them. Only the parts that are compared are converted to JSON. So a look
at one key of a large state costs no more than that key.
"""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

from headrace.db.jsonb import load_jsonb
from headrace.events.json_encoding import encode_json, storable
from headrace.json_text import UNSTORABLE

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]")

#: How scalars are compared: by type and value, because True is not 1 in JSON.
_Scalar = tuple[bool, Any]


class TooManyComparisons(Exception):
    """A filter needs more comparisons than a request may have."""


class Comparisons:
    """Counts the comparisons that the filters of one request may still make."""

    def __init__(self, most: int = 500_000) -> None:
        self.most = self._left = most

    def take(self, number: int = 1) -> None:
        """Count ``number`` comparisons.

        :raises TooManyComparisons: fewer are left.
        """
        self._left -= number
        if self._left < 0:
            raise TooManyComparisons


def contains(value: Any, wanted: Any, comparisons: Comparisons | None = None) -> bool:
    """Whether ``value @> wanted``, as for jsonb.

    :param value: as a graph holds it.
    :param wanted: as ``json.loads`` makes it.
    :raises TooManyComparisons: ``comparisons`` has not enough left.
    """
    return _contains(plain(value), wanted, comparisons or Comparisons())


def _contains(value: Any, wanted: Any, comparisons: Comparisons) -> bool:
    comparisons.take()
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            key in value and _contains(plain(value[key]), item, comparisons)
            for key, item in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(value, list) and _holds(value, wanted, comparisons)
    return not isinstance(value, dict | list) and _scalar(value) == _scalar(wanted)


def _holds(value: list[Any], wanted: list[Any], comparisons: Comparisons) -> bool:
    """Whether an item of ``value`` contains each wanted item. One item may contain several."""
    if not wanted:
        return True
    scalars: set[_Scalar] = set()
    parts: list[Any] = []
    # Each item of the value is looked at once, for any number of wanted items.
    comparisons.take(len(value))
    for item in map(plain, value):
        if isinstance(item, dict | list):
            parts.append(item)
        else:
            scalars.add(_scalar(item))
    looked_for = [item for item in wanted if isinstance(item, dict | list)]
    return all(
        _scalar(item) in scalars for item in wanted if not isinstance(item, dict | list)
    ) and all(any(_contains(part, item, comparisons) for part in parts) for item in looked_for)


def _scalar(value: Any) -> _Scalar:
    return isinstance(value, bool), value


def plain(value: Any) -> Any:
    """The value with its outermost level converted to JSON."""
    kind = type(value)
    if value is None or kind is bool or kind is list or (kind is int and value.bit_length() < 64):
        return value
    if kind is float:
        return value if isfinite(value) else None
    if kind is str and _is_writable(value):
        return value
    if kind is dict and all(type(key) is str and _is_writable(key) for key in value):
        return value
    return storable(value)


def _is_writable(text: str) -> bool:
    return UNSTORABLE.search(text) is None


def at_path(document: Mapping[str, Any], path: str) -> Any:
    """The value at a path like ``values.messages[-1].content``; None where there is none."""
    found: Any = document
    for key, index in _STEP.findall(path):
        found = plain(found)
        if index:
            found = _item(found, int(index))
        else:
            found = found.get(key) if isinstance(found, dict) else None
    return found


class ExtractedTooLarge(Exception):
    """The values at all paths are too large together. Several paths may lead to one value."""


def extracted(
    document: Mapping[str, Any], paths: Mapping[str, str], max_bytes: int
) -> dict[str, Any]:
    """The value at each path, as JSON.

    :raises ExtractedTooLarge: the values are longer than ``max_bytes`` together.
    """
    shown: dict[str, Any] = {}
    total = 0
    for alias, path in paths.items():
        text = encode_json(at_path(document, path))
        total += len(text)
        if total > max_bytes:
            raise ExtractedTooLarge
        shown[alias] = load_jsonb(text)
    return shown


def _item(found: Any, index: int) -> Any:
    if not isinstance(found, list):
        return None
    return found[index] if -len(found) <= index < len(found) else None
