"""What the rendered configuration says; that Envoy does it is for tests/integration/mesh/render/test_envoy.py."""

import base64
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.rpc import error_details_pb2, status_pb2

from mesh.contract import Contract
from mesh.errors import Reason
from mesh.model.mesh import Mesh, load_mesh
from mesh.render.envoy import Address, Placement, RenderError, TokenRules, render
from mesh.render.envoy.local_reply import TABLE, local_reply_config

CONTRACT = Contract.load()
MESH = load_mesh()
TOKENS = TokenRules(issuer="https://issuer.test", audience="authmesh", jwks_cache=60)
ALL = (*MESH.nodes, "edge")

# What grpc core 1.85 parses, but for what a caller may send (src/core/call/metadata_batch.h).
_TAKEN_OFF = (
    *(
        f"grpc-{name}"
        for name in (
            "status",
            "message",
            "internal-encoding-request",
            "retry-pushback-ms",
            "previous-rpc-attempts",
            "lb-client-stats",
        )
    ),
    *(f"grpc-{name}-bin" for name in ("server-stats", "trace", "tags", "status-details")),
    *("endpoint-load-metrics-bin", "lb-cost-bin"),
)


def placement(node: str) -> Placement:
    base = Placement(
        config=Path("/config"),
        certificates=Path("/identity"),
        admin_socket=Path("/admin.sock"),
        access_log=Path("/access.log"),
        reload=True,
        nodes={name: Address("127.0.0.1", 20000 + number) for number, name in enumerate(MESH.nodes)},
    )
    if node == "edge":
        return replace(
            base,
            listener=Address("127.0.0.1", 8443),
            public_certificates=Path("/public"),
            cors_origins=("https://app.test",),
        )
    return replace(
        base, ingress=base.nodes[node], service_socket=Path("/service.sock"), egress_socket=Path("/egress.sock")
    )


@cache
def rendered(node: str) -> dict[str, Any]:
    files = render(MESH, CONTRACT, node, placement(node), TOKENS)
    return {name: yaml.load(text, Loader=yaml.CSafeLoader) for name, text in files.items()}


def managers(node: str) -> dict[str, dict[str, Any]]:
    listeners = rendered(node)["lds.yaml"]["resources"]
    found = [listener["filter_chains"][0]["filters"][0]["typed_config"] for listener in listeners]
    return {manager["stat_prefix"]: manager for manager in found}


def filters(manager: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["name"].rpartition(".")[2]: item["typed_config"] for item in manager["http_filters"]}


def routes(node: str, file: str) -> dict[str, dict[str, Any]]:
    return {route["name"]: route for route in rendered(node)[file]["resources"][0]["virtual_hosts"][0]["routes"]}


def test_names_are_those_of_app_mesh() -> None:
    files = rendered("auth")
    assert files["bootstrap.yaml"]["node"]["id"] == "mesh/authmesh/virtualNode/auth"
    assert [item["name"] for item in files["lds.yaml"]["resources"]] == [
        "lds_ingress_0.0.0.0_15000",
        "lds_egress_0.0.0.0_15001",
    ]
    assert [item["name"] for item in files["cds.yaml"]["resources"]] == [
        "cds_ingress_authmesh_auth_grpc_8080",
        "cds_egress_authmesh_token_grpc_8080",
        "cds_egress_authmesh_user_grpc_8080",
    ]
    assert {"rds_ingress_grpc_8080.yaml", "rds_egress_grpc_8080.yaml"} < files.keys()
    assert rendered("edge")["bootstrap.yaml"]["node"]["id"] == "mesh/authmesh/virtualGateway/edge"


@pytest.mark.parametrize("node", ALL)
def test_without_reload_the_bootstrap_holds_the_same_resources(node: str) -> None:
    files = render(MESH, CONTRACT, node, replace(placement(node), reload=False), TOKENS)
    assert not [name for name in files if not name.startswith(("bootstrap", "sds_"))]
    static = yaml.safe_load(files["bootstrap.yaml"])["static_resources"]
    dynamic = rendered(node)
    for kind, file in (("clusters", "cds.yaml"), ("listeners", "lds.yaml")):
        for item, twin in zip(static[kind], dynamic[file]["resources"], strict=True):
            if kind == "listeners":
                manager, other = (one["filter_chains"][0]["filters"][0]["typed_config"] for one in (item, twin))
                routes, source = manager.pop("route_config"), (other := dict(other)).pop("rds", None)
                assert manager == {key: value for key, value in other.items() if key != "route_config"}
                assert source is None or source["route_config_name"] == routes["name"]
            else:
                assert item == {key: value for key, value in twin.items() if key != "@type"}


def test_the_edge_bounds_a_client_before_it_keeps_anything_and_asks_for_a_token_before_it_keeps_a_body() -> None:
    order = [item["name"].removeprefix("envoy.filters.http.") for item in managers("edge")["edge"]["http_filters"]]
    assert order == [
        "health_check",
        "lua",
        "cors",
        "grpc_web",
        "local_ratelimit.request_share",
        "local_ratelimit.requests",
        "adaptive_concurrency",
        "csrf",
        "rbac.request_head",
        "header_mutation",
        "jwt_authn",
        "rbac.announced_size",
        "buffer",
        "rbac.actual_size",
        "connect_grpc_bridge",
        "grpc_json_transcoder",
        "rbac",
        "local_ratelimit.share",
        "local_ratelimit",
        "grpc_http1_reverse_bridge",
        "router",
    ]


def test_the_edge_demands_a_token_for_every_form_of_an_rpc_that_demands_one() -> None:
    authn = filters(managers("edge")["edge"])["jwt_authn"]
    opened = [rpc for route in MESH.gateway_routes for rpc in CONTRACT.services[route.match.service_name]]
    for rpc in opened:
        demands = rpc.access.WhichOneof("kind") == "authenticated"
        assert ("requires" in first_rule(authn["rules"], "POST", rpc.path)) == demands
        for binding in rpc.http:
            path = binding.template
            for variable in re.findall(r"\{[^}]+\}", path):
                path = path.replace(variable, variable.strip("{}").partition("=")[2].replace("*", "0197a1b2"))
            assert ("requires" in first_rule(authn["rules"], binding.method, path)) == demands, path
    policies = filters(managers("edge")["edge"])["rbac"]["rules"]["policies"]
    held = {item["url_path"]["path"]["exact"] for item in policies["without-token"]["permissions"]}
    assert held >= {rpc.path for rpc in opened if rpc.access.WhichOneof("kind") == "authenticated"}


def first_rule(rules: list[dict[str, Any]], method: str, path: str) -> dict[str, Any]:
    for rule in rules:
        match = rule["match"]
        methods = [header["string_match"]["exact"] for header in match.get("headers", ())]
        if methods in ([], [method]) and (
            match.get("path") == path or re.fullmatch(match.get("safe_regex", {}).get("regex", "(?!)"), path)
        ):
            return rule
    raise AssertionError(f"no rule is about {method} {path}")


@pytest.mark.parametrize("node", MESH.nodes)
def test_whatever_is_not_free_of_a_token_demands_one(node: str) -> None:
    authn = filters(managers(node)["ingress"])["jwt_authn"]
    rules = authn["rules"]
    assert rules[-1] == {"match": {"prefix": "/"}, "requires": {"provider_name": "authmesh"}}
    free = {rule["match"]["path"] for rule in rules[:-1]}
    assert not {
        path for path in free if (rpc := CONTRACT.rpcs.get(path)) and rpc.access.WhichOneof("kind") == "authenticated"
    }


@pytest.mark.parametrize("node", ALL)
def test_tokens_are_verified_alike_everywhere(node: str) -> None:
    authn = filters(managers(node)["edge" if node == "edge" else "ingress"])["jwt_authn"]
    provider = authn["providers"]["authmesh"]
    assert provider["from_headers"] == [{"name": "authorization", "value_prefix": " "}]
    assert provider["forward"] is True
    assert provider["require_expiration"] is True
    assert provider["clock_skew_seconds"] == 60
    # It keeps the keys when Token is away, and goes on admitting nothing that they don't verify.
    assert provider["remote_jwks"]["async_fetch"]["fast_listener"] is False
    assert not {"jwt_cache_config", "local_jwks", "from_params", "from_cookies"} & provider.keys()


@pytest.mark.parametrize("node", MESH.nodes)
def test_a_sidecar_admits_to_an_internal_rpc_exactly_the_named_callers(node: str) -> None:
    policies = filters(managers(node)["ingress"])["rbac"]["rules"]["policies"]
    admitted: dict[str, set[str]] = {}
    for policy in policies.values():
        names = {principal["authenticated"]["principal_name"]["exact"] for principal in policy["principals"]}
        for permission in policy["permissions"]:
            admitted.setdefault(permission["url_path"]["path"]["exact"], set()).update(names)
    for path, names in admitted.items():
        rpc = CONTRACT.rpcs.get(path)
        if rpc is not None and rpc.access.WhichOneof("kind") == "internal":
            named = set(rpc.access.internal.callers)
            assert names == {f"spiffe://authmesh/{name}" for name in (MESH.nodes if "*" in named else named)}
        if rpc is not None and rpc.access.WhichOneof("kind") == "authenticated":
            assert names == {"spiffe://authmesh/edge"}
    assert admitted["/grpc.health.v1.Health/Check"] == {f"spiffe://authmesh/{name}" for name in ALL}


@pytest.mark.parametrize("node", ALL)
def test_every_listener_takes_off_the_headers_that_no_caller_has_a_say_in(node: str) -> None:
    for listener, manager in managers(node).items():
        if listener == "health":
            continue
        mutations = manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
        (pattern,) = [
            found["safe_regex"]["regex"]
            for item in mutations
            if "safe_regex" in (found := item.get("remove_on_match", {}).get("key_matcher", {}))
        ]
        for name in (*_TAKEN_OFF, "grpc-status", "grpc-tags-bin", "x-bin", "a!", "!a", "a b", "A"):
            assert re.fullmatch(pattern, name), name
        for name in (
            "grpc-timeout",
            "grpc-encoding",
            "grpc-accept-encoding",
            "authorization",
            ":path",
            "x-request-id",
            "a.b_c",
            "traceparent",
        ):
            assert not re.fullmatch(pattern, name), name
        assert "request_head" in filters(manager)


def test_internal_rpcs_have_no_route_at_the_edge() -> None:
    found = routes("edge", "rds_ingress_http2_8443.yaml")
    paths = {route["match"].get("path") for route in found.values()}
    for rpc in CONTRACT.rpcs.values():
        assert (rpc.path in paths) == (rpc.access.WhichOneof("kind") != "internal")


def test_only_egress_retries_and_only_what_declares_it() -> None:
    egress = routes("user", "rds_egress_grpc_8080.yaml")
    for route in egress.values():
        assert ("retry_policy" in route["route"]) <= CONTRACT.rpcs[route["match"]["path"]].idempotent
    policy = egress["TokenIssuer.SetSubjectGrants"]["route"]["retry_policy"]
    assert policy["retry_on"] == "unavailable,refused-stream,reset,retriable-status-codes,connect-failure"
    assert (policy["num_retries"], policy["per_try_timeout"]) == (2, "3s")
    for node, file in (("token", "rds_ingress_grpc_8080.yaml"), ("edge", "rds_ingress_http2_8443.yaml")):
        assert not [route for route in routes(node, file).values() if "retry_policy" in route["route"]]


def test_unary_calls_and_silent_streams_end_whatever_deadline_their_caller_has() -> None:
    found = routes("edge", "rds_ingress_http2_8443.yaml")
    watch, read = found["ResourceService.WatchResources"]["route"], found["ResourceService.GetResource"]["route"]
    assert (watch["timeout"], watch["idle_timeout"], watch["max_stream_duration"]) == (
        "0s",
        "90s",
        {"grpc_timeout_header_max": "0s"},
    )
    assert read["max_stream_duration"] == {"max_stream_duration": "15s", "grpc_timeout_header_max": "15s"}
    ingress = routes("resource", "rds_ingress_grpc_8080.yaml")["ResourceService.GetResource"]["route"]
    assert ingress["max_stream_duration"]["max_stream_duration"] == "16s"


@pytest.mark.parametrize("node", ALL)
def test_no_listener_waits_for_long_for_a_request_or_a_reader(node: str) -> None:
    for name, manager in managers(node).items():
        if name != "health":
            bounds = [
                manager[bound] for bound in ("request_headers_timeout", "request_timeout", "stream_flush_timeout")
            ]
            assert bounds == ["10s", "10s", "30s"]


def test_egress_has_routes_to_backends_only() -> None:
    services = {route["match"]["path"].split("/")[1] for route in routes("audit", "rds_egress_grpc_8080.yaml").values()}
    assert services == {
        f"authmesh.token.v1.{name}" for name in ("TokenService", "TokenIssuer", "KeyService", "ClientService")
    }
    assert routes("token", "rds_egress_grpc_8080.yaml") == {}


def test_sockets_are_the_users_own_and_peers_must_prove_who_they_are() -> None:
    files = rendered("auth")
    assert files["bootstrap.yaml"]["admin"]["address"]["pipe"] == {"path": "/admin.sock", "mode": 0o600}
    ingress, egress = files["lds.yaml"]["resources"]
    assert egress["address"]["pipe"] == {"path": "/egress.sock", "mode": 0o600}
    server = ingress["filter_chains"][0]["transport_socket"]["typed_config"]
    assert server["require_client_certificate"] is True
    assert _san(server) == {"prefix": "spiffe://authmesh/"}
    token = next(item for item in files["cds.yaml"]["resources"] if "_token_" in item["name"])
    assert _san(token["transport_socket"]["typed_config"]) == {"exact": "spiffe://authmesh/token"}
    assert files["sds_identity.yaml"]["resources"][0]["tls_certificate"]["watched_directory"] == {"path": "/identity"}


def _san(context: dict[str, Any]) -> Any:
    return context["common_tls_context"]["combined_validation_context"]["default_validation_context"][
        "match_typed_subject_alt_names"
    ][0]["matcher"]


def test_a_node_is_found_by_dns_where_it_has_no_fixed_address() -> None:
    moved = replace(placement("auth"), nodes={name: Address(f"{name}.authmesh.svc", 15000) for name in MESH.nodes})
    clusters = yaml.safe_load(render(MESH, CONTRACT, "auth", moved, TOKENS)["cds.yaml"])["resources"]
    assert {item["name"]: item["type"] for item in clusters}["cds_egress_authmesh_token_grpc_8080"] == "STRICT_DNS"


def test_rate_limits_can_be_raised_for_load_tests() -> None:
    raised = replace(placement("edge"), rate_limit_factor=10)
    text = render(MESH, CONTRACT, "edge", raised, TOKENS)["rds_ingress_http2_8443.yaml"]
    found = {route["name"]: route for route in yaml.safe_load(text)["resources"][0]["virtual_hosts"][0]["routes"]}
    limit = found["AuthService.SignUp"]["typed_per_filter_config"]["envoy.filters.http.local_ratelimit"]
    totals = next(item["token_bucket"] for item in limit["descriptors"] if item["entries"][0]["key"] == "total")
    declared = next(item for item in MESH.virtual_gateway.rate_limits if any("SignUp" in path for path in item.methods))
    assert limit["descriptors"][0]["token_bucket"]["max_tokens"] == 10 * declared.per_client.requests
    # Envoy refuses to fill more often.
    assert float(totals["fill_interval"].removesuffix("s")) >= 0.05


def test_rate_limits_nest_from_an_address_to_all_that_its_owner_may_have() -> None:
    limits = routes("edge", "rds_ingress_http2_8443.yaml")["AuthService.SignIn"]["typed_per_filter_config"]
    limit, share = limits["envoy.filters.http.local_ratelimit"], limits["envoy.filters.http.local_ratelimit.share"]
    masks = [
        (mask["v4_prefix_mask_len"], mask["v6_prefix_mask_len"])
        for rule in limit["rate_limits"]
        for action in rule["actions"]
        if (mask := action.get("masked_remote_address"))
    ]
    assert masks == [(32, 64), (24, 56), (24, 48)]
    # Nobody is refused by the share; what is beyond it counts against the total, and nothing else does.
    assert share["filter_enforced"]["default_value"]["numerator"] == 0
    (mark,) = share["request_headers_to_add_when_not_enforced"]
    total = limit["rate_limits"][-1]["actions"][0]["request_headers"]
    assert total == {"header_name": mark["header"]["key"], "descriptor_key": "total"}


def test_what_a_client_has_no_say_in_is_taken_off_at_the_edge() -> None:
    mutations = managers("edge")["edge"]["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    removed = {mutation.get("remove") for mutation in mutations}
    assert {"x-authmesh-beyond-share", "x-authmesh-beyond-request-share"} <= removed


@pytest.mark.parametrize("node", ALL)
def test_logs_name_no_header_with_a_credential_and_no_query(node: str) -> None:
    for manager in managers(node).values():
        for log in manager.get("access_log", ()):
            text = json.dumps(log["typed_config"]["log_format"]).lower()
            assert "authorization" not in text
            assert "req(:path" not in text


def test_the_placement_must_fit_the_node() -> None:
    with pytest.raises(RenderError, match="auth: the placement lacks egress_socket"):
        render(MESH, CONTRACT, "auth", replace(placement("auth"), egress_socket=None), TOKENS)
    with pytest.raises(RenderError, match="edge: the placement lacks listener, public_certificates"):
        render(MESH, CONTRACT, "edge", placement("auth"), TOKENS)
    with pytest.raises(RenderError, match="nobody is not a node of the mesh: choose from auth"):
        render(MESH, CONTRACT, "nobody", placement("auth"), TOKENS)
    with pytest.raises(RenderError, match="auth: the placement has no address of token, user"):
        render(MESH, CONTRACT, "auth", replace(placement("auth"), nodes={}), TOKENS)


def test_every_local_reply_has_its_grpc_and_its_json_form() -> None:
    mappers = local_reply_config()["mappers"]
    assert {reply.refusal.reason for reply in TABLE} == {
        Reason.TOKEN_MISSING,
        Reason.KEYS_UNAVAILABLE,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_INVALID,
        Reason.CALLER_NOT_ALLOWED,
        Reason.RATE_LIMITED,
        Reason.MESSAGE_TOO_LARGE,
        Reason.NOT_IMPLEMENTED,
        Reason.DEADLINE,
        Reason.OVERLOADED,
        Reason.DEPENDENCY_UNAVAILABLE,
        Reason.FIELD_INVALID,
        Reason.INTERNAL,
    }
    for mapper in mappers:
        headers = {item["header"]["key"]: item["header"]["value"] for item in mapper["headers_to_add"]}
        if "grpc-status" in headers:
            encoded = headers["grpc-status-details-bin"]
            status = status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
            info = error_details_pb2.ErrorInfo()
            assert status.details[0].Unpack(info)
            assert (info.domain, str(status.code)) == ("authmesh", headers["grpc-status"])
            # gRPC-Web would make a status of its own from a body.
            assert mapper["body"] == {"inline_string": ""}
        else:
            body = mapper["body_format_override"]["json_format"]
            assert body.keys() == {"code", "message", "details"}
            assert body["details"][0]["domain"] == "authmesh"


def tracing_of(text: str) -> list[Any]:
    return [
        item["filters"][0]["typed_config"]["tracing"]
        for listener in yaml.safe_load(text)["resources"]
        for item in listener["filter_chains"]
        if "tracing" in item["filters"][0]["typed_config"]
    ]


def test_the_edge_decides_what_is_traced_and_sidecars_follow() -> None:
    collector = Address("collector.watch", 4318)
    edge = render(MESH, CONTRACT, "edge", replace(placement("edge"), collector=collector), TOKENS)
    (found,) = tracing_of(edge["lds.yaml"])
    assert found["random_sampling"] == {"value": MESH.tracing.sampling}
    assert "sampler" not in found["provider"]["typed_config"]
    auth = render(MESH, CONTRACT, "auth", replace(placement("auth"), collector=collector), TOKENS)
    for one in tracing_of(auth["lds.yaml"]):
        assert one["random_sampling"] == {"value": 100}
        assert "ParentBased" in str(one["provider"]["typed_config"]["sampler"])
    clusters = yaml.safe_load(edge["cds.yaml"])["resources"]
    assert "cds_traces_collector" in [cluster["name"] for cluster in clusters]


def test_without_a_collector_nothing_is_traced() -> None:
    for node in ("edge", "auth"):
        files = render(MESH, CONTRACT, node, placement(node), TOKENS)
        assert {one["random_sampling"]["value"] for one in tracing_of(files["lds.yaml"])} == {0}
        assert "cds_traces_collector" not in files["cds.yaml"]


@pytest.mark.parametrize("trusted", [False, True])
def test_what_clients_say_of_their_trace_ends_at_the_edge_unless_they_are_trusted(trusted: bool) -> None:
    raw = MESH.model_dump(by_alias=True)
    raw["tracing"]["trustClients"] = trusted
    files = render(Mesh.model_validate(raw), CONTRACT, "edge", placement("edge"), TOKENS)
    for header in ("traceparent", "tracestate"):
        assert (f"remove: {header}" in files["lds.yaml"]) is not trusted
    assert "remove: traceparent" not in render(MESH, CONTRACT, "auth", placement("auth"), TOKENS)["lds.yaml"]
