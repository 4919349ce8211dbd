"""The address of a local mesh's PostgreSQL for its administrator."""

from tests.e2e.conftest import RunningMesh


def admin_url(mesh: RunningMesh) -> str:
    """Of the mesh's PostgreSQL."""
    sockets = mesh.row("postgres")["address"].removeprefix("unix:").rpartition("/")[0]
    password = (mesh.home / "postgres" / "password").read_text().strip()
    return f"postgresql://postgres:{password}@/postgres?host={sockets}"
