"""The settings of shares: what one of several callers may use."""

from pydantic import Field

from headrace.setting_groups import Group


class CallerSettings(Group):
    """The limits of one caller. API keys tell callers apart (docs/limits.md)."""

    share: float = Field(
        0.75,
        gt=0,
        le=1,
        description="A caller may hold this part of the places that it holds and those that are"
        " free: places for runs, lists, changes, streams and waits, and memory for bodies. 1 lets"
        " one caller take all. Without keys, or with one, there is one caller, who may take all.",
    )
    max_queued_runs: int = Field(
        100_000,
        ge=1,
        description="Runs of one caller that may wait in the queue; more get 429. Counted every"
        " 5 s, so a few more may get in. Without keys, or with one, this holds for all runs.",
    )
    requests_at_once: int = Field(
        64,
        ge=2,
        description="Requests that a process works on at once, where there are several callers;"
        " each caller has its share. The others wait for their turn, 15 s at most; then 429.",
    )
