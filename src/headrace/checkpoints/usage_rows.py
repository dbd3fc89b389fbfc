"""Stores the model calls of attempts, in transactions that also write checkpoints and run ends.

Figures are absolute: to store them twice changes nothing. So a flush may be repeated.
"""

from collections.abc import Sequence
from typing import Any

from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.flush_call import Answer, Arguments
from headrace.checkpoints.operations import CalledKind, Numbers, Operation, written_if_live
from headrace.checkpoints.tally import UsageTally
from headrace.db.arrays import BigInteger, Column, Integer, Text, Uuid

#: Bytes of a row, about, for the bounds of the writer's queue.
_ROW_BYTES = 200


class StoreUsage(Operation):
    """The figures of one attempt until now."""

    __slots__ = ("_tally", "models")

    def __init__(self, tally: UsageTally) -> None:
        self._tally = tally
        self.models = tally.take()
        # Without RunWrites: it is stored also if a write of the run has failed, and fails no run.
        super().__init__(tally.thread_id, None, size_bytes=_ROW_BYTES * len(self.models))

    @property
    def token(self) -> RunToken:
        return self._tally.token

    def settle(self, outcome: Any) -> None:
        if isinstance(outcome, BaseException):
            self._tally.give_back()
        super().settle(outcome)


class _UsageKind(CalledKind):
    """Stored before run ends: after the end of a run, the fence refuses its usage."""

    order = 3

    def arguments(self, operations: Sequence[StoreUsage], numbers: Numbers) -> Arguments:
        return _columns(operations, numbers)

    def outcomes(
        self, operations: Sequence[StoreUsage], numbers: Numbers, answer: Answer
    ) -> Sequence[Any]:
        return written_if_live(operations, numbers, answer)


def _columns(operations: Sequence[StoreUsage], numbers: Numbers) -> dict[str, Column]:
    # Later figures of an attempt contain the earlier ones, and one statement upserts a row once.
    rows = {
        (item.token, model): (item, model, used)
        for item in operations
        for model, used in item.models.items()
    }.values()
    return {
        "usage_tokens": Integer([numbers.of(item) for item, _, _ in rows]),
        "usage_run_ids": Uuid([item.token.run_id for item, _, _ in rows]),
        "usage_attempts": Integer([item.token.attempt for item, _, _ in rows]),
        "usage_models": Text([model.encode() for _, model, _ in rows]),
        "usage_calls": Integer([used.calls for _, _, used in rows]),
        "usage_input_tokens": BigInteger([used.tokens.input for _, _, used in rows]),
        "usage_output_tokens": BigInteger([used.tokens.output for _, _, used in rows]),
        "usage_cached_tokens": BigInteger([used.tokens.cached for _, _, used in rows]),
        "usage_reasoning_tokens": BigInteger([used.tokens.reasoning for _, _, used in rows]),
    }


StoreUsage.kind = _UsageKind()
