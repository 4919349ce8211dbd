"""Refreshes that were committed and could not be signed."""

from alembic import op

revision = "0004_unanswered_refreshes"
down_revision = "0003_clients"


def upgrade() -> None:
    op.execute("ALTER TABLE refresh_tokens ADD COLUMN unanswered boolean NOT NULL DEFAULT false")
