"""What the Resource process reads from its environment."""

from datetime import timedelta

from pydantic import Field

from mesh.settings import DatabaseSettings, EventSettings, ProcessSettings


class ResourceSettings(ProcessSettings, DatabaseSettings, EventSettings):
    """Settings of the Resource service. Durations are seconds or ISO 8601 (`P7D`)."""

    watch_heartbeat: timedelta = Field(default=timedelta(seconds=15), gt=timedelta(0))
    """How long an open watch stays silent before it says that it is alive."""
    change_retention: timedelta = Field(default=timedelta(days=7), ge=timedelta(hours=1))
    """How long a broken watch can be continued."""
    resources_per_owner: int = Field(default=1_000, ge=1)
    """How many resources one person may own."""
