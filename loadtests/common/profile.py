"""How many users, for how long, what is too slow. Read from LOAD_* in the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from loadtests.measuring.variables import choice, number


@dataclass(frozen=True)
class Profile:
    """``seconds`` is the whole run, of which the first ``ramp_seconds`` bring the users in."""

    name: str
    users: int
    seconds: float
    ramp_seconds: float
    #: Mean pause between a reply and the next message; from half of it to one and a half times.
    think_seconds: float
    #: What the server must serve.
    graphs: tuple[str, ...]
    #: Bounds of all requests together, with the first events and the ends of streams.
    p95_ms: float
    p99_ms: float
    #: The part of all requests that may fail.
    max_failures: float = 0.0
    #: The test ends after so many requests, if that is earlier; 0: it does not.
    requests: int = 0
    #: A 429 or 503 with Retry-After is no failure: the user comes again when it is over.
    waits_out_refusals: bool = False
    #: Users as a part of ``users``, one step after the other; each has the same time.
    steps: tuple[float, ...] = (1.0,)

    def users_at(self, seconds: float) -> int | None:
        """How many users there should be; None once the time is over."""
        if seconds >= self.seconds:
            return None
        step = int(seconds / self.seconds * len(self.steps))
        return max(1, round(self.users * self.steps[step]))

    @property
    def users_per_second(self) -> float:
        return self.users / self.ramp_seconds

    def pause(self, fraction: float) -> float:
        """Seconds for a random number from 0 to 1."""
        return self.think_seconds * (0.5 + fraction)


_CHAT = ("chat",)
_ALL = ("chat", "agent", "approval", "tokens", "sleeper")


PROFILES = {
    one.name: one
    for one in [
        # Is everything right, in CI? Not: how fast is it?
        Profile("smoke", 6, 8, 1, 0.1, _CHAT, p95_ms=5_000, p99_ms=10_000),
        # People who chat.
        Profile("chat", 20, 60, 10, 1, _CHAT, p95_ms=1_000, p99_ms=2_000),
        Profile("agent", 20, 60, 10, 0.5, ("agent",), p95_ms=1_000, p99_ms=2_000),
        Profile("stream", 20, 60, 10, 0.2, ("tokens",), p95_ms=2_500, p99_ms=5_000),
        Profile("background", 20, 60, 10, 0.2, ("sleeper",), p95_ms=2_000, p99_ms=4_000),
        Profile("resume", 20, 60, 10, 0.5, ("approval",), p95_ms=1_000, p99_ms=2_000),
        Profile("mixed", 20, 60, 10, 0.1, _ALL, p95_ms=1_000, p99_ms=2_000),
        # As long as LOAD_REQUESTS or LOAD_SECONDS say.
        Profile(
            "soak",
            16,
            48 * 3600,
            10,
            0.01,
            _ALL,
            p95_ms=10_000,
            p99_ms=20_000,
            waits_out_refusals=True,
        ),
        # Up to far more users than the server can serve, and back.
        Profile(
            "overload",
            320,
            90,
            5,
            0.01,
            ("sleeper",),
            p95_ms=10_000,
            p99_ms=15_000,
            waits_out_refusals=True,
            steps=(0.1, 0.2, 1.0, 1.0, 0.1, 0.1),
        ),
    ]
}


def profile_from(environ: Mapping[str, str]) -> Profile:
    """The profile that LOAD_PROFILE names, with what the other LOAD_* change.

    :raises ValueError: with a sentence about the variable that cannot be.
    """
    default = PROFILES[choice(environ, "LOAD_PROFILE", PROFILES, "chat")]
    seconds = number(environ, "LOAD_SECONDS", default.seconds)
    ramp = number(environ, "LOAD_RAMP_SECONDS", min(default.ramp_seconds, seconds / 4))
    return replace(
        default,
        users=max(1, int(number(environ, "LOAD_USERS", default.users))),
        seconds=seconds,
        ramp_seconds=ramp,
        think_seconds=number(environ, "LOAD_THINK_SECONDS", default.think_seconds),
        p95_ms=number(environ, "LOAD_P95_MS", default.p95_ms),
        p99_ms=number(environ, "LOAD_P99_MS", default.p99_ms),
        max_failures=number(environ, "LOAD_MAX_FAILURES", default.max_failures, least=0.0),
        requests=int(number(environ, "LOAD_REQUESTS", default.requests, least=0.0)),
    )
