"""Budgets of tokens: what a run may still use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from headrace.errors import TokenBudgetExceeded

Budget = Literal["run", "thread", "owner_day"]

_SENTENCES = {
    "run": "This run has used {spent:,} tokens; HEADRACE_USAGE__RUN_TOKENS is {most:,}.",
    "thread": "The runs of this thread have used {spent:,} tokens;"
    " HEADRACE_USAGE__THREAD_TOKENS is {most:,}.",
    "owner_day": "The runs of this owner have used {spent:,} tokens today (UTC);"
    " HEADRACE_USAGE__OWNER_TOKENS_PER_DAY is {most:,}.",
}


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget of an attempt.

    :ivar most: how many tokens it allows.
    :ivar before: what was used of it when the attempt began.
    """

    budget: Budget
    most: int
    before: int = 0

    def error(self, spent: int) -> TokenBudgetExceeded:
        """:param spent: tokens of the attempt itself."""
        used = self.before + spent
        return TokenBudgetExceeded(_SENTENCES[self.budget].format(spent=used, most=self.most))


def spent_limit(limits: Sequence[Limit], spent: int) -> Limit | None:
    """The first budget that leaves no token for another call; None: each leaves some."""
    return next((one for one in limits if one.before + spent >= one.most), None)


def exceeded_limit(limits: Sequence[Limit], spent: int) -> Limit | None:
    """The first budget that allows less than is used. A call may use a budget's last token."""
    return next((one for one in limits if one.before + spent > one.most), None)
