"""The store's semantic index: which vectors it has, and the paths that puts have named.

The table of the vectors depends on ``langgraph.json``, so ``headrace db upgrade`` makes it
afterwards (db/vector_tables.py). The previous release has no index, and reads none of these tables.
"""

from alembic import op

from headrace.db.table_schema import RevisionNames

revision = "0021"
down_revision = "0020"

names = RevisionNames(
    tables={
        "store_index": {"only_row": "boolean", "embed": "text"},
        "store_index_paths": {"prefix": "text", "key": "text", "paths": "jsonb"},
    },
    indexes={
        "store_index_pkey": "store_index",
        "store_index_paths_pkey": "store_index_paths",
    },
)


def upgrade() -> None:
    op.execute("""
        CREATE TABLE store_index (
            only_row boolean NOT NULL DEFAULT true CONSTRAINT store_index_pkey PRIMARY KEY,
            dims integer NOT NULL,
            vector_type text NOT NULL,
            embed text NOT NULL,
            fields jsonb NOT NULL,
            rebuild jsonb,
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT store_index_one_row_check CHECK (only_row)
        )""")
    op.execute("""
        CREATE TABLE store_index_paths (
            prefix text NOT NULL,
            key text NOT NULL,
            paths jsonb NOT NULL,
            CONSTRAINT store_index_paths_pkey PRIMARY KEY (prefix, key),
            CONSTRAINT store_index_paths_item_fkey
                FOREIGN KEY (prefix, key) REFERENCES store (prefix, key) ON DELETE CASCADE
        )""")
