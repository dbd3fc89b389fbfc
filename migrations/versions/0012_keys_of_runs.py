"""An index on the run of an idempotency key. An ended run is not deleted before its key."""

from headrace.db.ddl import create_index_concurrently
from headrace.db.table_schema import RevisionNames

revision = "0012"
down_revision = "0011"

names = RevisionNames(indexes={"idempotency_keys_run_id_idx": "idempotency_keys"}, repeatable=True)


def upgrade() -> None:
    create_index_concurrently("idempotency_keys_run_id_idx", "ON idempotency_keys (run_id)")
