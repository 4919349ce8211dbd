"""The roles that tests of clients go by."""

from pathlib import Path

import services.token
from services.token.sessions.grants import load_role_scopes

HERE = Path(services.token.__file__).parent


ROLES = load_role_scopes(HERE / "roles.yaml")
