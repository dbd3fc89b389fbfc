"""The settings of what one caller of several may take."""

from pydantic import Field

from headrace.setting_groups import Group


class CallerSettings(Group):
    """What one of several callers may take; callers are told apart by their API keys."""

    share: float = Field(
        0.75,
        gt=0,
        le=1,
        description="Of the places that it holds and those that are free, a caller may hold this"
        " part. 1 lets one caller take all. Without keys, or with one, there is one caller.",
    )
    max_queued_runs: int = Field(
        100_000,
        ge=1,
        description="Runs of one caller that may wait in the queue; more get 429. Counted every"
        " 5 s, so a few more may get in. Without keys, or with one, this holds for all runs.",
    )
