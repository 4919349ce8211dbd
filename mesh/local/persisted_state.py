"""What a mesh has to remember from run to run, so that tokens and addresses stay good."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mesh.operator.secret_file import write_private


class PersistedState(BaseModel):
    """Ports that were found, and what was set up already."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    edge_port: int | None = None
    """Of the last run with EDGE_PORT=0: the issuer's address is in every token."""
    aws_port: int | None = None
    """It is in the addresses of queues."""
    demo_database: str | None = None
    """Names the database that the demo user was made in."""

    @classmethod
    def read(cls, file: Path) -> "PersistedState":
        """What the file holds; nothing if it is missing or damaged, for all of it can be found anew."""
        try:
            return cls.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            return cls()

    def write(self, file: Path) -> None:
        """Writes the file.

        Raises:
            OperatorError: it can't be written.
        """
        write_private(file, self.model_dump_json(exclude_none=True).encode())
