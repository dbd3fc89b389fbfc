"""Variables of the environment that change a measurement.

Each function gives the default where a variable is not set or empty, and raises ValueError with a
sentence where it cannot be. Needs nothing but Python: Locust's environment reads this too.
"""

from collections.abc import Collection, Mapping
from typing import TypeVar

Default = TypeVar("Default")


def count(environ: Mapping[str, str], name: str, default: Default) -> int | Default:
    """A whole number above 0."""
    text = environ.get(name)
    if not text:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{name}={text}: a whole number above 0 is needed.")
    return int(text)


def number(
    environ: Mapping[str, str], name: str, default: float, *, least: float | None = None
) -> float:
    """:param least: the least that may be; None: anything above 0."""
    text = environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if least is None:
        if not 0 < value < float("inf"):
            raise ValueError(f"{name}={text}: a number above 0 is needed.")
    elif not least <= value < float("inf"):
        raise ValueError(f"{name}={text}: a number from {least:g} is needed.")
    return value


def choice(environ: Mapping[str, str], name: str, known: Collection[str], default: str) -> str:
    """One of ``known``."""
    return _require_known(name, environ.get(name) or default, known)


def names(
    environ: Mapping[str, str], name: str, known: Collection[str], default: tuple[str, ...]
) -> tuple[str, ...]:
    """Those of ``known`` that the variable names, separated by commas."""
    given = [one.strip() for one in (environ.get(name) or "").split(",") if one.strip()]
    wanted = {_require_known(name, one, known) for one in given}
    return tuple(one for one in known if one in wanted) if wanted else default


def _require_known(name: str, value: str, known: Collection[str]) -> str:
    if value not in known:
        raise ValueError(f"{name}={value}: there are {', '.join(known)}.")
    return value
