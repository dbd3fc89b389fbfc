"""LangGraph's store table, as AsyncPostgresStore.setup() creates it (its versions 0 to 3)."""

from alembic import op

from headrace.db.ddl import create_index_concurrently, record_versions
from headrace.db.table_schema import RevisionNames

revision = "0002"
down_revision = "0001"

names = RevisionNames(
    tables={
        "store_migrations": {"v": "integer"},
        "store": {
            "prefix": "text",
            "key": "text",
            "value": "jsonb",
            "created_at": "timestamp with time zone",
            "updated_at": "timestamp with time zone",
        },
    },
    indexes={
        "store_migrations_pkey": "store_migrations",
        "store_pkey": "store",
        "store_prefix_idx": "store",
        "idx_store_expires_at": "store",
    },
    repeatable=True,
)


def upgrade() -> None:
    op.execute("CREATE TABLE IF NOT EXISTS store_migrations (v INTEGER PRIMARY KEY)")
    op.execute("""
        CREATE TABLE IF NOT EXISTS store (
            prefix text NOT NULL,
            key text NOT NULL,
            value jsonb NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
            PRIMARY KEY (prefix, key)
        )""")
    op.execute("""
        ALTER TABLE store
        ADD COLUMN IF NOT EXISTS expires_at TIMESTAMP WITH TIME ZONE,
        ADD COLUMN IF NOT EXISTS ttl_minutes INT""")
    create_index_concurrently("store_prefix_idx", "ON store USING btree (prefix text_pattern_ops)")
    create_index_concurrently(
        "idx_store_expires_at", "ON store (expires_at) WHERE expires_at IS NOT NULL"
    )
    record_versions("store_migrations", 3)
