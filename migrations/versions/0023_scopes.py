"""Scopes of callers: threads by owner, the owner of an idempotency key, the caller of a cron.

The index leaves threads of anonymous callers out: a server without identities pays nothing for it.
The previous release writes neither of the two columns, and needs none.
"""

from alembic import op

from headrace.db.ddl import create_index_concurrently
from headrace.db.table_schema import RevisionNames

revision = "0023"
down_revision = "0022"

names = RevisionNames(tables={}, indexes={"threads_owner_idx": "threads"}, repeatable=True)

_COMMENTS = {
    "idempotency_keys.route": "with the owner, if it has a name",
    "crons.auth": "what its runs keep of its caller; NULL: the owner alone",
}


def upgrade() -> None:
    op.execute("ALTER TABLE idempotency_keys ADD COLUMN IF NOT EXISTS owner text")
    op.execute("ALTER TABLE crons ADD COLUMN IF NOT EXISTS auth jsonb")
    for column, comment in _COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN {column} IS '{comment}'")
    create_index_concurrently(
        "threads_owner_idx",
        "ON threads (tenant, owner, created_at DESC, thread_id)"
        " WHERE NOT temporary AND owner <> 'anonymous'",
    )
