"""What the nodes have written into the ledger, and what the database holds of their runs."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg


@dataclass(frozen=True, slots=True)
class Line:
    """``event`` is ``begun`` or ``ended``; ``at`` is in seconds since 1970."""

    event: str
    run_id: str
    attempt: int
    step: int
    node: str
    at: float


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """``wrote``: the channels to which the tasks that ran on top of it have written."""

    checkpoint_id: str
    parent_id: str | None
    wrote: frozenset[str] = frozenset()


@dataclass(slots=True)
class Run:
    """One run, of ``steps`` supersteps, with all that is known of it."""

    run_id: str
    durability: str
    steps: int
    thread_id: str = ""
    status: str = ""
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    #: Oldest first.
    checkpoints: list[Checkpoint] = field(default_factory=list)


def read_ledger(path: Path) -> list[Line]:
    """All whole lines, in the order in which they were written."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [Line(**json.loads(line)) for line in lines]


def checkpoints_of(database: psycopg.Connection[Any], thread_id: str) -> list[Checkpoint]:
    """The chain of a thread, oldest first."""
    rows = database.execute(
        "SELECT checkpoint_id, parent_checkpoint_id, ARRAY(SELECT channel FROM checkpoint_writes w"
        "  WHERE w.thread_id = c.thread_id AND w.checkpoint_ns = c.checkpoint_ns"
        "  AND w.checkpoint_id = c.checkpoint_id)"
        " FROM checkpoints c WHERE thread_id = %s AND checkpoint_ns = '' ORDER BY checkpoint_id",
        (thread_id,),
    ).fetchall()
    return [Checkpoint(own, parent, frozenset(wrote)) for own, parent, wrote in rows]
