"""App Mesh's resources of a mesh: valid, and the same mesh when they are read again."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mesh.appmesh import envoy, manifest, mesh_yaml, resources
from mesh.appmesh.model import AppMesh
from tests.kit.app_mesh import SAMPLES
from tests.kit.crds import validator

CRDS = Path(__file__).parents[3] / "kit" / "appmesh_crds"
CLUSTER = re.compile(r"\bcds_[A-Za-z0-9._-]+")
NAMES = st.sampled_from(["a", "b-1", "c_prod", "D.e", "f_g", "f-g"])
SECONDS = st.integers(0, 100_000).map(lambda value: f"{value}ms")
CHECKED = st.integers(5_000, 300_000).map(lambda value: f"{value}ms")
NAMED = st.text("abcxyz./", min_size=1, max_size=9)


def some(fields: Mapping[str, Any], **optional: Any) -> Any:
    return st.fixed_dictionaries(dict(fields), optional=optional)


def one_of(**fields: Any) -> Any:
    return st.one_of(*(some({name: value}) for name, value in fields.items()))


HEADER = some(
    {"name": NAMED},
    invert=st.booleans(),
    match=one_of(
        exact=NAMED,
        prefix=NAMED,
        suffix=NAMED,
        regex=NAMED,
        range=some({"start": st.integers(0, 9), "end": st.integers(9)}),
    ),
)
TIMEOUT = some({}, perRequest=SECONDS, idle=SECONDS)
CERTIFICATE = one_of(
    acm=some({"certificateARN": NAMED}),
    file=some({"certificateChain": NAMED, "privateKey": NAMED}),
    sds=some({"secretName": NAMED}),
)
TRUST = one_of(file=some({"certificateChain": NAMED}), sds=some({"secretName": NAMED}))
VALIDATION = some({"trust": TRUST}, subjectAlternativeNames=some({"match": some({"exact": st.tuples(NAMED)})}))
CLIENT_POLICY = some(
    {},
    tls=some(
        {"validation": VALIDATION},
        enforce=st.booleans(),
        ports=st.tuples(st.integers(1, 65535)),
        certificate=CERTIFICATE.filter(lambda one: "acm" not in one),
    ),
)
LOGGING = some(
    {},
    accessLog=some(
        {"file": some({"path": NAMED}, format=one_of(text=NAMED, json=st.tuples(some({"key": NAMED, "value": NAMED}))))}
    ),
)


def listeners(protocol: str) -> Any:
    pool = {
        "grpc": {"maxRequests": 5},
        "http2": {"maxRequests": 6},
        "tcp": {"maxConnections": 7},
        "http": {"maxConnections": 8, "maxPendingRequests": 9},
    }[protocol]
    timeout = some({}, idle=SECONDS) if protocol == "tcp" else TIMEOUT
    check = some(
        {
            "protocol": st.just(protocol),
            "interval": CHECKED,
            "timeout": st.just("2s"),
            "healthyThreshold": st.integers(2, 10),
            "unhealthyThreshold": st.integers(2, 10),
        },
        port=st.just(8080),
        **({"path": NAMED} if protocol == "http" else {}),
    )
    return some(
        {"portMapping": st.just({"port": 8080, "protocol": protocol})},
        healthCheck=check,
        timeout=some({protocol: timeout}),
        connectionPool=st.just({protocol: pool}),
        outlierDetection=some(
            {
                "maxServerErrors": st.integers(1, 9),
                "interval": SECONDS,
                "baseEjectionDuration": SECONDS,
                "maxEjectionPercent": st.integers(0, 100),
            }
        ),
        tls=some(
            {"mode": st.sampled_from(["STRICT", "PERMISSIVE", "DISABLED"]), "certificate": CERTIFICATE},
            validation=VALIDATION,
        ),
    )


def routes(nodes: list[str]) -> Any:
    action = some(
        {
            "weightedTargets": st.tuples(
                some({"virtualNode": st.sampled_from(nodes), "weight": st.integers(1, 100)}, port=st.just(8080))
            )
        }
    )
    retries = {
        "maxRetries": st.integers(0, 5),
        "perRetryTimeout": SECONDS,
        "httpRetryEvents": st.tuples(st.sampled_from(["server-error", "gateway-error", "client-error"])),
    }
    grpc = some(
        {
            "match": some({"serviceName": NAMED}, methodName=NAMED, metadata=st.tuples(HEADER), port=st.just(8080)),
            "action": action,
        },
        timeout=TIMEOUT,
        retryPolicy=some(
            retries, grpcRetryEvents=st.just(("cancelled",)), tcpRetryEvents=st.just(("connection-error",))
        ),
    )
    query = some({"name": NAMED}, match=some({"exact": NAMED}))
    http = some(
        {
            "match": some(
                {"prefix": st.just("/")},
                method=st.just("GET"),
                scheme=st.just("https"),
                headers=st.tuples(HEADER),
                queryParameters=st.tuples(query),
            ),
            "action": action,
        },
        timeout=TIMEOUT,
        retryPolicy=some(retries),
    )
    tcp = some({"action": action}, match=some({}, port=st.just(8080)), timeout=some({}, idle=SECONDS))
    kind = st.one_of(
        some({"grpcRoute": grpc}), some({"httpRoute": http}), some({"http2Route": http}), some({"tcpRoute": tcp})
    )
    return st.tuples(NAMED.map(lambda name: f"r{name.count('a')}"), st.integers(0, 1000), kind).map(
        lambda parts: {"name": parts[0], "priority": parts[1], **parts[2]}
    )


@st.composite
def meshes(draw: st.DrawFn) -> AppMesh:
    """Any mesh."""
    nodes = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    routers = draw(st.lists(NAMES, max_size=2, unique=True))
    services = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    gateways = draw(st.lists(NAMES, max_size=2, unique=True))
    target = some({"virtualService": st.sampled_from(services)}, port=st.just(8080))
    rewrite = some({}, hostname=some({"defaultTargetHostname": st.sampled_from(["ENABLED", "DISABLED"])}))
    gateway_route = some(
        {
            "match": some(
                {"serviceName": NAMED}, hostname=one_of(exact=NAMED, suffix=NAMED), metadata=st.tuples(HEADER)
            ),
            "action": some({"target": target}, rewrite=rewrite),
        }
    )
    discovery = one_of(
        dns=some({"hostname": NAMED}, responseType=st.sampled_from(["LOADBALANCER", "ENDPOINTS"])),
        awsCloudMap=some(
            {"namespaceName": NAMED, "serviceName": NAMED}, attributes=st.tuples(some({"key": NAMED, "value": NAMED}))
        ),
    )
    provider = [{"virtualNode": name} for name in nodes] + [{"virtualRouter": name} for name in routers]
    return AppMesh.model_validate(
        {
            "authorization": "none",
            "name": draw(NAMES),
            "egressFilter": draw(st.sampled_from(["ALLOW_ALL", "DROP_ALL"])),
            "virtualNodes": tuple(
                {
                    "name": name,
                    "listeners": (draw(st.sampled_from(["grpc", "http", "http2", "tcp"]).flatmap(listeners)),),
                    "serviceDiscovery": draw(discovery),
                    "backends": draw(
                        st.tuples(some({"virtualService": st.sampled_from(services)}, clientPolicy=CLIENT_POLICY))
                    ),
                    **draw(some({}, backendDefaults=some({}, clientPolicy=CLIENT_POLICY), logging=LOGGING)),
                }
                for name in nodes
            ),
            "virtualRouters": tuple(
                {
                    "name": name,
                    "listeners": ({"portMapping": {"port": 8080, "protocol": "grpc"}},),
                    "routes": tuple(draw(st.lists(routes(nodes), max_size=2))),
                }
                for name in routers
            ),
            "virtualServices": tuple(
                {"name": name, **draw(some({}, provider=st.sampled_from(provider)))} for name in services
            ),
            "virtualGateways": tuple(
                {
                    "name": name,
                    "listeners": ({"portMapping": {"port": 8088, "protocol": "grpc"}},),
                    **draw(some({}, logging=LOGGING)),
                }
                for name in gateways
            ),
            "gatewayRoutes": tuple(
                {"name": f"g{place}", "virtualGateway": name, "grpcRoute": draw(gateway_route)}
                for place, name in enumerate(gateways)
            ),
        }
    )


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(meshes())
def test_a_mesh_without_a_fault_has_envoys_and_their_clusters_are_there(mesh: AppMesh) -> None:
    mesh = without_acm(mesh)
    assume(not list(mesh_yaml.faults(mesh)))
    list(envoy.notes(mesh))
    files = envoy.render_all(mesh)
    for name in (*(one.name for one in mesh.virtual_nodes), *(one.name for one in mesh.virtual_gateways)):
        there = {one["name"] for one in yaml.safe_load(files[f"{name}/cds.yaml"])["resources"]}
        for file, text in files.items():
            if file.startswith(f"{name}/rds_"):
                assert set(CLUSTER.findall(text)) <= there


def read_back(files: Mapping[str, str]) -> AppMesh:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text)
        return manifest.read([Path(folder)])[0]


def without_acm(mesh: AppMesh) -> AppMesh:
    """Certificates of ACM are others when they are read: see `manifest`."""
    return AppMesh.model_validate(_without_acm(mesh.model_dump(by_alias=True)))


def _without_acm(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("acm"):
            return {"sds": {"secretName": "was in ACM"}}
        return {key: _without_acm(one) for key, one in value.items()}
    return tuple(map(_without_acm, value)) if isinstance(value, tuple) else value


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(meshes())
def test_what_is_written_reads_as_the_same_mesh_and_is_valid(mesh: AppMesh) -> None:
    mesh = without_acm(mesh)
    files = resources.render(mesh, "prod")
    assert_valid(files)
    assert read_back(files) == mesh


@pytest.mark.parametrize("sample", sorted(path.name for path in SAMPLES.iterdir() if path.suffix != ".txt"))
def test_samples_are_written_as_they_were_read(sample: str) -> None:
    mesh, _ = manifest.read([SAMPLES / sample])
    files = resources.render(mesh, "paint")
    assert_valid(files)
    assert read_back(files) == mesh


def assert_valid(files: Mapping[str, str]) -> None:
    for text in files.values():
        for resource in yaml.safe_load_all(text):
            faults = [fault.message for fault in VALIDATORS[resource["kind"]].iter_errors(resource)]
            assert not faults, (resource, faults)


def _schema(kind: str) -> Any:
    plural = "meshes" if kind == "Mesh" else f"{kind.lower()}s"
    crd = yaml.safe_load((CRDS / f"appmesh.k8s.aws_{plural}.yaml").read_text())
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


VALIDATORS = {
    kind: validator(_schema(kind))
    for kind in ("Mesh", "VirtualNode", "VirtualRouter", "VirtualService", "VirtualGateway", "GatewayRoute")
}
