"""The log of changes keeps what someone has not seen yet once.

What many people see is announced in turn; resume tokens are sealed.
"""

from alembic import op

revision = "0003_fair_changes"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Updates and deletions, written once, however many see the resource: services/resource/change_log.py tells the
    # viewers, in the turn of its owner.
    """
    CREATE TABLE announcements (
        id bigint GENERATED ALWAYS AS IDENTITY,
        resource_id uuid PRIMARY KEY,
        owner_id uuid NOT NULL,
        removed_from uuid[]
    )
    """,
    "CREATE INDEX announcements_in_turn ON announcements (owner_id, id)",
    # One row for each person and resource: the last thing that happened, and since when the person sees the resource.
    "ALTER TABLE changes ADD COLUMN seen_since bigint",
    """
    DELETE FROM changes c
    USING (SELECT user_id, resource_id, max(sequence) AS last FROM changes GROUP BY user_id, resource_id) newest
    WHERE c.user_id = newest.user_id AND c.resource_id = newest.resource_id AND c.sequence < newest.last
    """,
    "UPDATE changes SET seen_since = CASE change WHEN 1 THEN sequence WHEN 2 THEN 0 END",
    "ALTER TABLE changes DROP COLUMN change",
    "CREATE UNIQUE INDEX changes_once ON changes (user_id, resource_id)",
    # 244 random bits, the same for all replicas.
    """
    ALTER TABLE change_head
    ADD COLUMN token_secret bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
    """,
    "ALTER TABLE change_head ALTER COLUMN token_secret DROP DEFAULT",
)


def upgrade() -> None:
    """Changes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
