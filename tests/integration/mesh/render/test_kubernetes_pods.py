"""What a Deployment is given, on real Envoys: probes, identities by service account, and files that change while it
runs."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import yaml
from google.api import httpbody_pb2
from grpc import aio

from mesh.contract import Contract
from mesh.local.authority import MeshAuthorities
from mesh.model.mesh import Mesh, load_mesh
from mesh.render.envoy import TokenRules
from mesh.render.kubernetes import Images, KubernetesRenderer
from mesh.spiffe import SpiffeIds
from tests.kit.envoy_chain import JWKS, Signer, StandIn, eventually
from tests.kit.pods import Cluster, EnvoyPod
from tests.kit.protocols import Client, open_clients

pytestmark = pytest.mark.slow

NAMESPACE = "identity"
REVOKE = "TokenService/RevokeToken"
ROUTES = "envoy/edge/rds_ingress_http2_8443.yaml"
RENDERER = KubernetesRenderer(
    TokenRules("https://issuer.test", "authmesh", 1), NAMESPACE, Images("services", "envoy"), trusted_hops=1
)


@dataclass
class Running:
    """Two pods: the edge, and Token with a stand-in for its process."""

    mesh: Mesh
    edge: EnvoyPod
    token: EnvoyPod
    process: StandIn
    clients: dict[str, Client]


@pytest.fixture(scope="module")
async def pods() -> AsyncIterator[Running]:
    mesh, contract, cluster = load_mesh(), Contract.load(), Cluster(NAMESPACE)
    files = RENDERER.render(mesh, contract)
    folder = Path(tempfile.mkdtemp(prefix="pods-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        ids = SpiffeIds(mesh.trust_domain, f"ns/{NAMESPACE}/sa/{{node}}")
        authorities = MeshAuthorities.load_or_create(folder / "ca", folder / "issued", ids)
        authorities.issue(("token", "edge"))
        made = {}
        for node in ("token", "edge"):
            (folder / node).mkdir()
            certificates = {"identity": authorities.certificates(node)}
            if node == "edge":
                certificates["public"] = authorities.public_certificates
            made[node] = EnvoyPod(folder / node, cluster, files, node, certificates)
        process = StandIn(made["token"].path("/run/authmesh/service"), contract)
        process.answers[JWKS] = [httpbody_pb2.HttpBody(content_type="application/json", data=Signer().jwks)]
        for pod in made.values():
            stack.push_async_callback(pod.stop)
            await pod.start()
        stack.push_async_callback(process.stop)
        url = f"https://127.0.0.1:{cluster.port('edge', mesh.virtual_gateway.port_mapping.port)}"
        clients = await stack.enter_async_context(open_clients(url, authorities.public_certificates / "ca.crt"))
        yield Running(mesh, made["edge"], made["token"], process, clients)


async def test_a_pod_is_ready_while_its_process_says_that_it_serves(pods: Running) -> None:
    async def ready(expected: int) -> bool:
        return await pods.token.probe("readinessProbe") == expected

    assert not await ready(200), "Envoy is up, and the process is not there yet"
    assert await pods.token.probe("startupProbe") == 200, "or the process would never be started"
    await pods.process.start()
    await eventually(lambda: ready(200))
    await pods.process.stop()
    await eventually(lambda: ready(503))
    assert await pods.token.probe("livenessProbe") == 200, "a process that is gone is no reason to replace its Envoy"
    await pods.process.start()
    await eventually(lambda: ready(200))
    assert await pods.edge.probe("readinessProbe") == 200


async def test_a_call_goes_from_the_edge_to_the_process_by_identities_of_service_accounts(pods: Running) -> None:
    await answered(pods, "OK")
    (call,) = [call for call in pods.process.heard if call.path.endswith("RevokeToken")][-1:]
    assert str(call.metadata["x-forwarded-client-cert"]).endswith(f";URI=spiffe://authmesh/ns/{NAMESPACE}/sa/edge")


async def test_the_edge_tells_its_metrics_where_its_annotations_lead(pods: Running) -> None:
    assert "envoy_server_live" in await pods.edge.metrics()


async def test_the_sockets_are_their_users_alone(pods: Running) -> None:
    egress = pods.token.path("/run/authmesh/egress")
    assert egress.stat().st_mode & 0o777 == 0o600
    with pytest.raises(aio.AioRpcError) as refused:
        async with aio.insecure_channel(f"unix:{egress}") as channel:
            await channel.unary_unary("/authmesh.user.v1.UserService/GetMe", request_serializer=bytes)(b"", timeout=5)
    assert refused.value.code() is not grpc.StatusCode.OK


async def test_other_files_are_taken_up_at_once_and_without_a_restart(pods: Running) -> None:
    await answered(pods, "OK")
    assert pods.edge.process is not None
    before = pods.edge.process.pid
    files = RENDERER.render(pods.mesh, Contract.load())
    pods.edge.configure({**files, ROUTES: without("RevokeToken", files[ROUTES])})
    await answered(pods, "UNIMPLEMENTED")
    pods.edge.configure(files)
    await answered(pods, "OK")
    assert pods.edge.process.pid == before
    assert pods.edge.process.returncode is None


async def test_files_that_envoy_refuses_change_nothing(pods: Running) -> None:
    files = dict(RENDERER.render(pods.mesh, Contract.load()))
    files[ROUTES] = files["envoy/edge/cds.yaml"]
    pods.edge.configure(files)

    async def refused() -> bool:
        stats = await pods.edge.admin("/stats?filter=rds.*update_(rejected|failure)")
        return any(line.rpartition(":")[2].strip() != "0" for line in stats.splitlines())

    await eventually(refused)
    await answered(pods, "OK")
    pods.edge.configure(RENDERER.render(pods.mesh, Contract.load()))


def without(method: str, routes: str) -> str:
    """Route configurations that don't know a method."""
    content = yaml.safe_load(routes)
    for host in content["resources"][0]["virtual_hosts"]:
        host["routes"] = [route for route in host["routes"] if method not in route["name"]]
    return yaml.safe_dump(content)


async def answered(pods: Running, status: str) -> None:
    """Waits until a call is answered so: names and health checks take their time."""

    async def holds() -> bool:
        answers = {(await client.call(REVOKE, {"token": "amr_x"})).status for client in pods.clients.values()}
        return answers == {status}

    await eventually(holds)
