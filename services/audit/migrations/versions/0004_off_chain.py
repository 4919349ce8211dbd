"""Which events of the projection are not part of their source's chain.

Those of before are marked by `authmesh audit rebuild`.
"""

from alembic import op

revision = "0004_off_chain"
down_revision = "0003_projection"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.execute("ALTER TABLE trail_event ADD COLUMN off_chain boolean NOT NULL DEFAULT false")
