"""What User reads from its environment."""

from pydantic import Field

from mesh.settings import DatabaseSettings, EventSettings, MessageSettings, ProcessSettings


class UserSettings(ProcessSettings, DatabaseSettings, EventSettings, MessageSettings):
    """User's own settings."""

    at_once_seconds: float = Field(default=2, gt=0)
    """How long a change of roles or status waits for Token and Auth to have heard of it. What takes longer arrives by
    the outbox."""
