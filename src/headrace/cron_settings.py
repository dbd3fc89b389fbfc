"""The settings of crons: runs on a schedule."""

from pydantic import Field

from headrace.setting_groups import Group


class CronSettings(Group):
    """Runs on a schedule (docs/crons.md)."""

    max_per_owner: int = Field(
        10_000,
        ge=0,
        description="Crons that one owner may have; a further one gets 409. All callers"
        " without an identity are one owner. 0: nobody may create one.",
    )
    min_interval_seconds: int = Field(
        60,
        ge=1,
        le=86_400,
        description="The least time between two slots of a schedule; a denser schedule gets 422."
        " Below 60, a schedule may have a sixth field, the seconds, at its end.",
    )
    max_payload_bytes: int = Field(
        256 * 1024,
        ge=1024,
        description="Bytes of a cron's payload as JSON: input, config and all else that its runs"
        " get.",
    )
    firings_per_look: int = Field(
        50,
        ge=1,
        le=1000,
        description="Due crons that a process takes at once. While there are more, it goes on at"
        " once.",
    )
    poll_seconds: float = Field(
        5.0,
        gt=0,
        description="How often a process looks for due crons without a reason. A timer wakes it for"
        " the next slot that it knows, and a notice when crons change.",
    )
    retry_seconds: float = Field(
        10.0,
        gt=0,
        le=60,
        description="A process that takes a due cron has so long to make its run; then any process"
        " may take the cron.",
    )
