"""Whose call it is, behind a load balancer that appends addresses as AWS's does (deploy/aws/edge.yaml): an Envoy stands
in for it, and forged headers go through the whole chain."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from mesh.cloudformation.stacks import chosen
from mesh.contract import Contract
from mesh.local.infra import Infra
from mesh.local.ports import free_port
from mesh.model.mesh import load_mesh
from tests.conftest import held
from tests.kit.envoy_chain import Chain, eventually, running

CONTRACT = Contract.load()
MESH = load_mesh()
BEHIND_ONE = MESH.model_copy(update={"virtual_gateway": MESH.virtual_gateway.model_copy(update={"trusted_hops": 1})})
CLIENT = "127.0.0.77"
"""Where our client calls from, another one than the load balancer."""
FORGED = [
    [("x-forwarded-for", "203.0.113.7")],
    [("x-forwarded-for", "203.0.113.7, 198.51.100.1, 192.0.2.9")],
    [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-for", "198.51.100.1")],
    [("x-envoy-external-address", "203.0.113.7")],
    [("x-forwarded-for", CLIENT), ("x-envoy-external-address", "203.0.113.7"), ("x-real-ip", "203.0.113.7")],
    [("forwarded", "for=203.0.113.7")],
]


@pytest.fixture(scope="module")
async def behind() -> AsyncIterator[tuple[Chain, str]]:
    """The mesh behind a load balancer, and that one's address."""
    async with held(running(BEHIND_ONE, CONTRACT, ["auth", "token"])) as chain, held(_balanced(chain)) as url:
        yield chain, url


@asynccontextmanager
async def _balanced(chain: Chain) -> AsyncIterator[str]:
    """An Envoy that does to requests what an Application Load Balancer does."""
    port, admin = free_port(), free_port()
    public = chain.authorities.public_certificates
    host, edge_port = chain.edge
    tls = {"certificate_chain": {"filename": f"{public}/tls.crt"}, "private_key": {"filename": f"{public}/tls.key"}}
    kind = "type.googleapis.com/envoy.extensions"
    http_options = {
        "@type": f"{kind}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    manager = {
        "@type": f"{kind}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "balancer",
        # routing.http.xff_header_processing.mode: append
        "use_remote_address": True,
        "route_config": {
            "virtual_hosts": [
                {"name": "edge", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "edge"}}]}
            ]
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{kind}.filters.http.router.v3.Router"}}],
    }
    configuration = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {
            "listeners": [
                {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [
                        {
                            "filters": [{"name": "http", "typed_config": manager}],
                            "transport_socket": {
                                "name": "tls",
                                "typed_config": {
                                    "@type": f"{kind}.transport_sockets.tls.v3.DownstreamTlsContext",
                                    "common_tls_context": {
                                        "tls_certificates": [tls],
                                        "alpn_protocols": ["h2", "http/1.1"],
                                    },
                                },
                            },
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "edge",
                    "load_assignment": {
                        "cluster_name": "edge",
                        "endpoints": [
                            {
                                "lb_endpoints": [
                                    {
                                        "endpoint": {
                                            "address": {"socket_address": {"address": host, "port_value": edge_port}}
                                        }
                                    }
                                ]
                            }
                        ],
                    },
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http_options
                    },
                    "transport_socket": {
                        "name": "tls",
                        "typed_config": {
                            "@type": f"{kind}.transport_sockets.tls.v3.UpstreamTlsContext",
                            "sni": "localhost",
                        },
                    },
                }
            ],
        },
    }
    file, log = chain.folder / "balancer.json", chain.folder / "balancer.log"
    file.write_text(json.dumps(configuration))
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            str(Infra.find().envoy), "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "warning",
            stdout=output, stderr=output,
        )  # fmt: skip
    try:

        async def ready() -> bool:
            assert process.returncode is None, log.read_text()[-2000:]
            try:
                async with httpx.AsyncClient() as client:
                    return (await client.get(f"http://127.0.0.1:{admin}/ready")).text.strip() == "LIVE"
            except httpx.TransportError:
                return False

        await eventually(ready)
        yield f"https://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _heard(chain: Chain, url: str, context: ssl.SSLContext, forged: Sequence[tuple[str, str]]) -> object:
    """The client's address, as the Auth process is told."""
    transport = httpx.AsyncHTTPTransport(verify=context, local_address=CLIENT)
    async with httpx.AsyncClient(transport=transport, base_url=url) as client:
        headers = [("content-type", "application/json"), *forged]
        response = await client.post("/v1/auth:signIn", content=b'{"email": "a@example.com"}', headers=headers)
    assert response.status_code == 200, response.text
    return chain.processes["auth"].heard[-1].metadata["x-envoy-external-address"]


@pytest.mark.parametrize("forged", [[], *FORGED], ids=str)
async def test_behind_a_load_balancer_the_client_is_whom_that_one_saw(
    behind: tuple[Chain, str], forged: list[tuple[str, str]]
) -> None:
    chain, url = behind
    assert await _heard(chain, url, chain.client_context(), forged) == CLIENT


async def test_past_the_load_balancer_a_stranger_would_choose_its_address(behind: tuple[Chain, str]) -> None:
    """So nobody but the load balancer may reach the edge: see the next test."""
    chain, _ = behind
    assert await _heard(chain, chain.url, chain.client_context(), [("x-forwarded-for", "203.0.113.7")]) == "203.0.113.7"


def test_nobody_but_the_load_balancer_reaches_the_edge() -> None:
    into_the_cluster = [
        resource["Properties"]
        for stack in chosen()
        for resource in stack.template.resources.values()
        if resource["Type"] == "AWS::EC2::SecurityGroupIngress"
        and resource["Properties"]["GroupId"] == {"Fn::ImportValue": "authmesh-compute-ClusterSecurityGroupId"}
    ]
    assert [(one["FromPort"], one["SourceSecurityGroupId"]) for one in into_the_cluster] == [
        (8443, {"Ref": "LoadBalancerSecurityGroup"})
    ]


def test_the_load_balancer_of_aws_appends() -> None:
    (edge,) = chosen(["edge"])
    attributes = edge.template.resources["LoadBalancer"]["Properties"]["LoadBalancerAttributes"]
    assert {"Key": "routing.http.xff_header_processing.mode", "Value": "append"} in attributes
