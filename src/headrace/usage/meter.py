"""Begins to count the model calls of each attempt, within what its budgets leave."""

from headrace.checkpoints.tally import UsageTally
from headrace.observability.usage_metrics import UsageMetrics
from headrace.usage.budgets import Limit
from headrace.usage.model_calls import ModelCalls, SilentModels
from headrace.usage.repository import UsageRepository
from headrace.usage_settings import UsageSettings


class UsageMeter:
    """One per process."""

    def __init__(
        self, repository: UsageRepository, settings: UsageSettings, metrics: UsageMetrics
    ) -> None:
        self._repository = repository
        self._settings = settings
        self._metrics = metrics
        self._silent = SilentModels()

    async def begin(self, tally: UsageTally, *, tenant: str, owner: str) -> ModelCalls:
        """Count the model calls of an attempt, within its budgets.

        Reads nothing if no budget is set. The budgets of thread and owner are read here only:
        what other runs store after that does not count for this attempt.

        :raises DatabaseUnavailable: what is left of a budget could not be read.
        """
        limits = await self._limits(tally, tenant, owner)
        return ModelCalls(tally, self._metrics, self._silent, limits)

    async def _limits(self, tally: UsageTally, tenant: str, owner: str) -> list[Limit]:
        settings = self._settings
        run = bool(settings.run_tokens) and tally.token.attempt > 1
        thread, owner_day = bool(settings.thread_tokens), bool(settings.owner_tokens_per_day)
        if not (run or thread or owner_day):
            return [Limit("run", settings.run_tokens)] if settings.run_tokens else []
        spent = await self._repository.spent_before(
            tally, tenant=tenant, owner=owner, run=run, thread=thread, owner_day=owner_day
        )
        limits = (
            Limit("run", settings.run_tokens, spent.run),
            Limit("thread", settings.thread_tokens, spent.thread),
            Limit("owner_day", settings.owner_tokens_per_day, spent.owner_day),
        )
        return [one for one in limits if one.most]
