"""When the newest token of a session was issued, and whose a token is that was revoked alone."""

from alembic import op

revision = "0006_issue_times"
down_revision = "0005_signing_keys"

STATEMENTS = (
    # `iat` of the newest access token. Null in rows that nothing has changed since: `services.token.sessions.store`
    # knows what it is there.
    "ALTER TABLE sessions ADD COLUMN issue_time timestamptz",
    # Of a token: its session, or the client that it is of. Of everything else: empty.
    "ALTER TABLE revocations ADD COLUMN holder text NOT NULL DEFAULT ''",
    "CREATE INDEX revocations_of_holder ON revocations (holder) WHERE kind = 1",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
