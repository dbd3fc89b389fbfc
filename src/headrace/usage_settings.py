"""The settings of usage: the budgets of tokens, and how long the figures are kept."""

from pydantic import Field

from headrace.setting_groups import Group


class UsageSettings(Group):
    """The tokens that models use: budgets, and how long figures are kept (docs/usage.md).

    A budget counts input and output tokens together. A run that exceeds one ends as `error`.
    """

    keep_days: float = Field(
        400.0,
        ge=0,
        le=36_600,
        description="Days the tokens of a run are kept, also when run and thread are deleted; 0:"
        " for ever.",
    )
    run_tokens: int = Field(
        0, ge=0, description="Tokens that one run may use, all its attempts together; 0: no budget."
    )
    thread_tokens: int = Field(
        0, ge=0, description="Tokens that all runs of one thread may use; 0: no budget."
    )
    owner_tokens_per_day: int = Field(
        0,
        ge=0,
        description="Tokens that the runs of one owner may use in a day (UTC); 0: no budget.",
    )
