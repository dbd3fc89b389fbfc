"""Numbers with Grafana's units, as people read them."""

import math
from collections.abc import Callable
from typing import Final

_BYTES: Final = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"), (1, "B"))
_COUNTS: Final = ((10**9, "G"), (10**6, "M"), (10**3, "k"), (1, ""))
_SECONDS: Final = (
    (86400, "d"),
    (3600, "h"),
    (60, "min"),
    (1, "s"),
    (1e-3, "ms"),
    (1e-6, "µs"),
)


def shown(value: float, unit: str) -> str:
    """
    :raises KeyError: of a unit that no dashboard has
    """
    return _SHOWN[unit](value)


def above(value: float, unit: str) -> float:
    """The end of an axis that goes to ``value``: a round number of the unit."""
    if value <= 0:
        return 1.0
    steps = {"s": _SECONDS, "bytes": _BYTES, "binBps": _BYTES}.get(unit, ())
    size = next((size for size, _ in steps if value >= size), 1.0 if value >= 1 else 0.0)
    if not size:
        return _round(value)
    rounds = (1, 2, 5, 10, 20, 30, 60) if unit == "s" and size in (60, 3600) else ()
    return next(
        (step * size for step in rounds if value <= step * size), _round(value / size) * size
    )


def _round(value: float) -> float:
    """The next of 1, 2, 5, 10 and so on."""
    size: float = 10.0 ** math.floor(math.log10(value))
    return next(step * size for step in (1, 2, 5, 10) if value <= step * size * 1.0001)


def _scaled(value: float, steps: tuple[tuple[float, str], ...], space: str = " ") -> str:
    if not value:
        return f"0{space}{steps[-1][1] if steps is not _SECONDS else 's'}".strip()
    for size, name in steps:
        if abs(value) >= size:
            return f"{_short(value / size)}{space}{name}".strip()
    return f"{_short(value / steps[-1][0])}{space}{steps[-1][1]}".strip()


def _short(value: float) -> str:
    """Three digits, and no zeros behind the point."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


_SHOWN: Final[dict[str, Callable[[float], str]]] = {
    "s": lambda value: _scaled(value, _SECONDS),
    "bytes": lambda value: _scaled(value, _BYTES),
    "binBps": lambda value: f"{_scaled(value, _BYTES)}/s",
    "reqps": lambda value: f"{_scaled(value, _COUNTS, '')} req/s",
    "cps": lambda value: f"{_scaled(value, _COUNTS, '')}/s",
    "percentunit": lambda value: f"{_short(100 * value)} %",
    "short": lambda value: _scaled(value, _COUNTS, ""),
}
