"""Challenges within a session."""

from alembic import op

revision = "0007_reauthentication"
down_revision = "0006_second_factors"


def upgrade() -> None:
    """Changes the table. A challenge without a session is a sign-in's."""
    op.execute("ALTER TABLE challenges ADD COLUMN session_id uuid")
