"""How many users, for how long, how fast they type. Read from LOAD_* in the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Profile:
    """``seconds`` is the whole run, of which the first ``ramp_seconds`` bring the users in."""

    name: str
    users: int
    seconds: float
    ramp_seconds: float
    #: Mean pause between a reply and the next message; from half of it to one and a half times.
    think_seconds: float

    @property
    def users_per_second(self) -> float:
        return self.users / self.ramp_seconds

    def pause(self, fraction: float) -> float:
        """Seconds for a random number from 0 to 1."""
        return self.think_seconds * (0.5 + fraction)


PROFILES = {
    # Is everything right, in CI? Not: how fast is it?
    "smoke": Profile("smoke", users=6, seconds=8, ramp_seconds=1, think_seconds=0.1),
    # People who chat.
    "chat": Profile("chat", users=20, seconds=60, ramp_seconds=10, think_seconds=1),
}


def profile_from(environ: Mapping[str, str]) -> Profile:
    """The profile that LOAD_PROFILE names, with what the other LOAD_* change.

    :raises ValueError: with a sentence about the variable that cannot be.
    """
    name = environ.get("LOAD_PROFILE") or "chat"
    if name not in PROFILES:
        raise ValueError(f"LOAD_PROFILE={name}: there are {' and '.join(PROFILES)}.")
    default = PROFILES[name]
    seconds = _positive(environ, "LOAD_SECONDS", default.seconds)
    return replace(
        default,
        users=max(1, int(_positive(environ, "LOAD_USERS", default.users))),
        seconds=seconds,
        ramp_seconds=min(default.ramp_seconds, seconds / 4),
        think_seconds=_positive(environ, "LOAD_THINK_SECONDS", default.think_seconds),
    )


def _positive(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}={text}: a number above 0 is needed.")
    return value
