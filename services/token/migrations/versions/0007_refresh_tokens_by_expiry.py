"""A btree in place of BRIN on the expiry of refresh tokens.

Once a purge has freed pages, new rows stand anywhere, and a range of pages spans every time: an idle purge then reads
the whole table.
"""

from alembic import op

revision = "0007_refresh_tokens_by_expiry"
down_revision = "0006_issue_times"


def upgrade() -> None:
    """Replaces the index."""
    op.execute("DROP INDEX refresh_tokens_expire")
    op.execute("CREATE INDEX refresh_tokens_expire ON refresh_tokens (expire_time)")
