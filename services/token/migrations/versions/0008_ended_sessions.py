"""A session that has ended says nothing of the person's devices any more."""

from alembic import op

revision = "0008_ended_sessions"
down_revision = "0007_refresh_tokens_by_expiry"


def upgrade() -> None:
    """Clears what sessions say that have ended."""
    op.execute("UPDATE sessions SET display_name = '', address = '', user_agent = '' WHERE end_time IS NOT NULL")
