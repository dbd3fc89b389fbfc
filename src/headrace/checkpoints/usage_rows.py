"""Stores the model calls of attempts, in transactions that also write checkpoints and run ends.

Figures are absolute: to store them twice changes nothing. So a flush may be repeated.
"""

from collections.abc import Sequence
from typing import Any

from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.operations import Kind, Numbers, Operation, Outcomes, written_if_live
from headrace.checkpoints.tally import UsageTally
from headrace.db.arrays import BigInteger, Column, Integer, Text, Uuid
from headrace.db.pool import Connection
from headrace.db.statements import named_statements

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


class _UsageKind(Kind):
    """Sent before run ends: after the end of a run, the fence refuses its usage."""

    order = 1

    def __init__(self) -> None:
        self._sql = named_statements("headrace.checkpoints", "flush.sql")["store_usage"]

    async def send(
        self, connection: Connection, operations: Sequence[StoreUsage], numbers: Numbers
    ) -> Outcomes:
        found = await connection.execute(self._sql, _columns(operations, numbers), prepare=True)
        return written_if_live(found, operations, numbers)


def _columns(operations: Sequence[StoreUsage], numbers: Numbers) -> dict[str, Column]:
    # Later figures of an attempt contain the earlier ones, and one statement upserts a row once.
    rows = {
        (item.token, model): (item, model, used)
        for item in operations
        for model, used in item.models.items()
    }.values()
    return {
        "tokens": Integer([numbers.of(item) for item, _, _ in rows]),
        "run_ids": Uuid([item.token.run_id for item, _, _ in rows]),
        "attempts": Integer([item.token.attempt for item, _, _ in rows]),
        "models": Text([model.encode() for _, model, _ in rows]),
        "calls": Integer([used.calls for _, _, used in rows]),
        "input_tokens": BigInteger([used.tokens.input for _, _, used in rows]),
        "output_tokens": BigInteger([used.tokens.output for _, _, used in rows]),
        "cached_tokens": BigInteger([used.tokens.cached for _, _, used in rows]),
        "reasoning_tokens": BigInteger([used.tokens.reasoning for _, _, used in rows]),
    }


StoreUsage.kind = _UsageKind()
