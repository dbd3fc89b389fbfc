"""What operators ask of a run: its trace, attempts, stops, errors, interrupts and tokens.

Columns without a default rewrite no row. A release without them leaves them empty. Rows of
``run_usage`` have no foreign key: a report still counts runs and threads that are deleted.
"""

from alembic import op

from headrace.db.ddl import create_index_concurrently
from headrace.db.table_schema import RevisionNames

revision = "0014"
down_revision = "0013"

names = RevisionNames(
    tables={
        "run_usage": {
            "run_id": "uuid",
            "attempt": "integer",
            "model": "text",
            "input_tokens": "bigint",
            "output_tokens": "bigint",
        }
    },
    indexes={
        "run_usage_pkey": "run_usage",
        "run_usage_created_at_idx": "run_usage",
        "run_usage_thread_id_idx": "run_usage",
    },
    repeatable=True,
)

_COMMENTS = {
    "traceparent": "W3C trace context under which its attempts are traced",
    "earlier_attempts": "attempts before the present one: process, times, how each ended",
    "cancel_asked_at": "when it was first asked to stop",
    "cancel_reason": "why it was asked to stop, e.g. client or next_run",
    "error_cause": "why it ended as error or timeout, e.g. graph or platform",
    "interrupts": "interrupts that it has left: id and node of each",
}


def upgrade() -> None:
    op.execute(
        "ALTER TABLE runs ADD COLUMN IF NOT EXISTS traceparent text,"
        " ADD COLUMN IF NOT EXISTS earlier_attempts jsonb,"
        " ADD COLUMN IF NOT EXISTS cancel_asked_at timestamptz,"
        " ADD COLUMN IF NOT EXISTS cancel_reason text,"
        " ADD COLUMN IF NOT EXISTS error_cause text,"
        " ADD COLUMN IF NOT EXISTS interrupts jsonb"
    )
    for column, text in _COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN runs.{column} IS '{text}'")
    op.execute(
        "CREATE TABLE IF NOT EXISTS run_usage ("
        " run_id uuid NOT NULL, attempt integer NOT NULL, model text NOT NULL,"
        " tenant text NOT NULL DEFAULT 'default', owner text NOT NULL DEFAULT 'anonymous',"
        " thread_id text NOT NULL, assistant_id uuid NOT NULL, graph_id text NOT NULL,"
        " calls integer NOT NULL DEFAULT 0, input_tokens bigint NOT NULL DEFAULT 0,"
        " output_tokens bigint NOT NULL DEFAULT 0, cached_tokens bigint NOT NULL DEFAULT 0,"
        " reasoning_tokens bigint NOT NULL DEFAULT 0,"
        " created_at timestamptz NOT NULL DEFAULT now(),"
        " CONSTRAINT run_usage_pkey PRIMARY KEY (run_id, attempt, model))"
    )
    create_index_concurrently("run_usage_created_at_idx", "ON run_usage (created_at)")
    # For the budget of a thread, whose rows outlive its runs.
    create_index_concurrently("run_usage_thread_id_idx", "ON run_usage (thread_id)")
