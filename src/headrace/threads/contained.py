"""What values hold, judged as Postgres judges jsonb, and what is at a path in them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]")


def contains(value: Any, wanted: Any) -> bool:
    """``value @> wanted`` of jsonb, for what ``json.loads`` makes of both."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            key in value and contains(value[key], item) for key, item in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(value, list) and all(
            any(contains(one, item) for one in value) for item in wanted
        )
    # True is no 1 here.
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def at_path(document: Mapping[str, Any], path: str) -> Any:
    """What stands at ``values.messages[-1].content``; None where nothing does."""
    found: Any = document
    for key, index in _STEP.findall(path):
        if index:
            found = _item(found, int(index))
        else:
            found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _item(found: Any, index: int) -> Any:
    if not isinstance(found, Sequence) or isinstance(found, str):
        return None
    return found[index] if -len(found) <= index < len(found) else None
