"""Token buckets in place of counted attempts; codes in rows of their own; one salt for all sign-ups of an address."""

from alembic import op

revision = "0003_throttling"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "DROP TABLE attempts",
    """
    CREATE TABLE buckets (
        key bytea PRIMARY KEY,
        full_time timestamptz NOT NULL
    )
    """,
    "CREATE INDEX buckets_full_time ON buckets (full_time)",
    """
    CREATE TABLE codes (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        email text NOT NULL,
        digest bytea NOT NULL,
        rest text NOT NULL,
        user_id uuid NOT NULL REFERENCES sign_ups ON DELETE CASCADE,
        expire_time timestamptz NOT NULL
    )
    """,
    "CREATE INDEX codes_email ON codes (email, digest)",
    "CREATE INDEX codes_user_id ON codes (user_id)",
    "CREATE INDEX codes_expire_time ON codes (expire_time)",
    "ALTER TABLE sign_ups DROP COLUMN code_hash, DROP COLUMN code_expire_time",
    "CREATE INDEX sign_ups_password ON sign_ups (email, password_hash)",
    # Of this database alone: what someone hashes beforehand for an address is worth nothing here.
    "CREATE TABLE salt_secret (secret bytea NOT NULL)",
    (
        "INSERT INTO salt_secret VALUES (sha256(convert_to(CAST(gen_random_uuid() AS text) || "
        "CAST(gen_random_uuid() AS text), 'UTF8')))"
    ),
)


def upgrade() -> None:
    """Makes the tables. Codes that were sent before are void: their sign-ups are made again."""
    for statement in STATEMENTS:
        op.execute(statement)
