"""API keys, of which the database has only digests.

The previous release does not read the table. It lets no caller in with these keys.
"""

from alembic import op

from headrace.db.table_schema import RevisionNames

revision = "0022"
down_revision = "0021"

names = RevisionNames(
    tables={"api_keys": {"prefix": "text", "sha256": "bytea", "scopes": "text[]"}},
    indexes={
        "api_keys_pkey": "api_keys",
        "api_keys_prefix_idx": "api_keys",
        "api_keys_tenant_idx": "api_keys",
    },
)


def upgrade() -> None:
    op.execute("""
        CREATE TABLE api_keys (
            id uuid NOT NULL CONSTRAINT api_keys_pkey PRIMARY KEY,
            prefix text NOT NULL,
            sha256 bytea NOT NULL,
            name text NOT NULL DEFAULT '',
            tenant text NOT NULL,
            owner text NOT NULL,
            scopes text[] NOT NULL,
            expires_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            revoked_at timestamptz,
            last_used_at timestamptz
        )""")
    op.execute("CREATE UNIQUE INDEX api_keys_prefix_idx ON api_keys (prefix)")
    op.execute("CREATE INDEX api_keys_tenant_idx ON api_keys (tenant, owner)")
