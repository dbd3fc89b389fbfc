"""The checkpoints of one run: when each was written, by which nodes, and how many bytes it takes.

No value of a checkpoint is read. All tables are those of LangGraph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from headrace.checkpoints.upstream import HIDDEN_NODES, PULLED
from headrace.db.pool import Connection
from headrace.db.statements import named_statements

#: At most so many checkpoints of a run are looked at, the newest ones.
MOST_CHECKPOINTS = 10_000
#: If the stored JSON of a checkpoint is larger than this, its nodes and new blobs are not read.
_JSON_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """One checkpoint of a run.

    :ivar nodes: the nodes that ran in the step that ends with this checkpoint.
    :ivar seconds: the time of that step; None if it is not known.
    :ivar bytes: bytes of the checkpoint's row, as stored.
    :ivar blob_bytes: bytes of the values that are new in it; None if the checkpoint is too large
        to be read for that.
    :ivar write_bytes: bytes of the writes stored with it: what its next nodes have written.
    """

    checkpoint_id: str
    namespace: str
    source: str | None
    step: int | None
    attempt: int | None
    nodes: Sequence[str]
    created_at: datetime | None
    seconds: float | None
    bytes: int
    blob_bytes: int | None
    write_bytes: int


@dataclass(frozen=True, slots=True)
class RunCheckpoints:
    """A page of a run's checkpoints, oldest first, and figures of all of them.

    :ivar count: how many checkpoints the run has; :data:`MOST_CHECKPOINTS` at most.
    :ivar steps: steps of the graph itself, without those of subgraphs.
    :ivar bytes: what all of them take together.
    :ivar last_at: when the newest of them was written.
    :ivar last_of_attempts: when the newest one of each attempt was written, by number.
    :ivar older_deleted: the oldest checkpoint that is left is not the first one that the run wrote:
        older ones were deleted.
    """

    count: int
    steps: int
    bytes: int
    last_at: datetime | None
    last_of_attempts: Mapping[str, datetime]
    page: Sequence[StoredCheckpoint]
    longest: StoredCheckpoint | None
    older_deleted: bool


async def read_checkpoints(
    connection: Connection,
    *,
    thread_id: str,
    run_id: UUID,
    attempts: Sequence[tuple[int, datetime]],
    limit: int,
    offset: int,
    only_last: bool,
) -> RunCheckpoints:
    """The checkpoints of a run, also those of its subgraphs.

    :param attempts: when the attempts of the run began, by number.
    :param limit, offset: of the page; the newest checkpoint has the offset 0.
    :param only_last: the run stores one checkpoint, at its end (durability ``exit``).
    """
    values = {
        "thread_id": thread_id,
        "run_id": str(run_id),
        "attempts": [str(number) for number, _ in attempts],
        "started": [started for _, started in attempts],
        "limit": limit,
        "offset": offset,
        "most": MOST_CHECKPOINTS,
        "json_bytes": _JSON_BYTES,
        "only_last": only_last,
        "pull": PULLED,
        "hidden": list(HIDDEN_NODES),
    }
    sql = named_statements("headrace.checkpoints", "run_checkpoints.sql")
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(sql["checkpoints"], values)
        rows = await cursor.fetchall()
    longest = next((_stored(row) for row in rows if row["is_longest"]), None)
    total = rows[0]
    return RunCheckpoints(
        count=total["count"],
        steps=total["loop_steps"],
        bytes=total["total_bytes"],
        last_at=total["last_at"],
        last_of_attempts={
            attempt: datetime.fromisoformat(at)
            for attempt, at in (total["by_attempt"] or {}).items()
            if at is not None
        },
        page=[_stored(row) for row in rows if row["in_page"]],
        longest=longest,
        older_deleted=not only_last and total["first_is_alone"] and total["first_step"] != "-1",
    )


def _stored(row: dict[str, Any]) -> StoredCheckpoint:
    return StoredCheckpoint(
        checkpoint_id=row["checkpoint_id"],
        namespace=row["checkpoint_ns"],
        source=row["source"],
        step=_number(row["step"]),
        attempt=_number(row["attempt"]),
        nodes=row["nodes"] or (),
        created_at=row["created_at"],
        seconds=row["seconds"],
        bytes=row["bytes"],
        blob_bytes=row["blob_bytes"],
        write_bytes=row["write_bytes"],
    )


def _number(text: str | None) -> int | None:
    """A number of the metadata, which a program other than LangGraph may have written."""
    try:
        return int(text) if text else None
    except ValueError:
        return None
