"""What the Token process reads from its environment."""

from pathlib import Path

from mesh.settings import ProcessSettings

_HERE = Path(__file__).parent


class TokenSettings(ProcessSettings):
    """Settings of Token, beside those that every process has."""

    signing_key_file: Path
    """PEM of the private key (EC P-256) that access tokens are signed with."""
    clients_file: Path = _HERE / "clients.yaml"
    """Who may ask for tokens."""
    roles_file: Path = _HERE / "roles.yaml"
    """Which scopes a role may have."""
