"""Runs: the cancel action ``delete``, and the id of the request that created the run.

Rows of the previous release stay valid. The previous release treats ``delete`` as ``interrupt``.
"""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("ALTER TABLE runs ADD COLUMN IF NOT EXISTS request_id text")
    op.execute("""
        COMMENT ON COLUMN runs.request_id IS 'of the request that made it, for logs and graphs'""")
    op.execute("""
        ALTER TABLE runs DROP CONSTRAINT IF EXISTS runs_cancel_action_check,
        ADD CONSTRAINT runs_cancel_action_check
        CHECK (cancel_action IN ('interrupt', 'rollback', 'delete')) NOT VALID""")
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE runs VALIDATE CONSTRAINT runs_cancel_action_check")
