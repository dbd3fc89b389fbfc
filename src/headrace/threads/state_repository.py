"""The storage that the checkpoints of a thread take; a query sees its caller's threads only."""

from headrace.auth.principal import Principal
from headrace.auth.row_scope import scope_values, scoped_statements
from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_rows
from headrace.db.pool import SharedPool
from headrace.states.schemas import (
    Measured,
    MeasuredChannel,
    MeasuredChannels,
    ThreadStorage,
)


class StateRepository:
    def __init__(self, pool: SharedPool) -> None:
        self._pool = pool
        self._sql = scoped_statements("headrace.threads", "state.sql")

    async def storage(self, principal: Principal, thread_id: str) -> ThreadStorage | None:
        """None when there is no such thread."""
        with translated_faults():
            rows = await indexed_rows(
                self._pool,
                self._sql["storage"],
                {"thread_id": thread_id, **scope_values(principal)},
            )
        if not rows:
            return None
        count, size, by_channel, writes, writes_size = rows[0]
        channels = {name: MeasuredChannel(**one) for name, one in by_channel.items()}
        values = MeasuredChannels(
            count=sum(one.versions for one in channels.values()),
            bytes=sum(one.bytes for one in channels.values()),
            by_channel=channels,
        )
        return ThreadStorage(
            thread_id=thread_id,
            total_bytes=size + values.bytes + writes_size,
            checkpoints=Measured(count=count, bytes=size),
            channel_values=values,
            pending_writes=Measured(count=writes, bytes=writes_size),
        )
