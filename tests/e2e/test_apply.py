"""Another mesh.yaml for the whole mesh while it runs."""

from pathlib import Path

from mesh.model.mesh import DEFAULT_FILE
from tests.e2e.conftest import Person, RunningMesh
from tests.kit.protocols import GrpcClient


async def test_a_changed_mesh_yaml_comes_to_every_envoy_and_goes_again(
    mesh: RunningMesh, person: Person, tmp_path: Path
) -> None:
    client = mesh.clients["grpc"]
    assert isinstance(client, GrpcClient)
    changed = tmp_path / "mesh.yaml"
    changed.write_text(DEFAULT_FILE.read_text().replace("perRequest: 15s", "perRequest: 14s"))
    assert (await mesh.authmesh("mesh", "diff"))[0] == 0
    status, output, _ = await mesh.authmesh("mesh", "diff", "--file", str(changed))
    assert status == 1
    assert "auth: routes rds_ingress_grpc_8080" in output
    assert "mesh.yaml 14s, running 15s" in output
    status, output, errors = await mesh.authmesh("mesh", "apply", "--file", str(changed))
    assert (status, errors) == (0, "")
    assert output.splitlines()[-1] == "done"
    try:
        assert (await mesh.authmesh("mesh", "diff", "--file", str(changed)))[0] == 0
        await client.ok("UserService/GetUser", {"name": "users/me"}, person.token)
    finally:
        assert (await mesh.authmesh("mesh", "apply"))[0] == 0
    status, output, _ = await mesh.authmesh("mesh", "apply")
    assert (status, output) == (0, "The Envoys run this mesh.yaml already.\n")


async def test_a_broken_mesh_yaml_changes_nothing_and_says_why(mesh: RunningMesh, tmp_path: Path) -> None:
    text = DEFAULT_FILE.read_text()
    broken = tmp_path / "mesh.yaml"
    for fault, said in (
        (text.replace("egressFilter", "egresFilter"), "did you mean egressFilter?"),
        (text.replace("weight: 100", "weight: 0", 1), "the weights of a route add up to 1..100"),
        (text.replace("maxConnections: 4000", "maxConnections: 400000"), "Nothing was changed."),
        (text.replace("name: edge", "name: gate"), "nodes come or go (edge, gate)"),
    ):
        broken.write_text(fault)
        status, output, errors = await mesh.authmesh("mesh", "apply", "--file", str(broken))
        assert (status, output) == (1, "")
        assert said in errors
    assert (await mesh.authmesh("mesh", "diff"))[0] == 0


async def test_status_has_a_line_for_each_way(mesh: RunningMesh) -> None:
    status, output, _ = await mesh.authmesh("mesh", "status", "--once", "--interval", "0.2")
    assert status == 0
    head, *rows = output.splitlines()
    assert head.split()[:3] == ["ENVOY", "SENDS", "TO"]
    assert [row.split()[0] for row in rows if not row.startswith(" ")] == [
        "auth",
        "token",
        "user",
        "resource",
        "audit",
        "edge",
    ]
    assert all("1/1" in row for row in rows)
