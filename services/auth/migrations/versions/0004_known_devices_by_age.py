"""An index by which known devices that were not used for long are found."""

from alembic import op

revision = "0004_known_devices_by_age"
down_revision = "0003_throttling"


def upgrade() -> None:
    """Makes the index."""
    op.execute("CREATE INDEX familiar_sources_last_time ON familiar_sources (last_time)")
