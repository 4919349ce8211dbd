"""Certificates of a mesh as App Mesh had it: by file, and by SDS on a unix socket."""

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mesh.appmesh.model import Certificate, ClientPolicy, Listener, ListenerTls, SubjectAlternativeNames, Trust
from mesh.render.envoy.resource import Resource, discovery, extension, from_file, http2_upstream

SDS_CLUSTER = "static_cluster_sds_unix_socket"
_SECRET = "transport_sockets.tls.v3.Secret"


class Secrets:
    """Certificates and CAs that an Envoy names, each once. Those of files are read again when they change."""

    def __init__(self, config: Path, sds_socket: Path) -> None:
        self._config, self._socket = config, sds_socket
        self._files: dict[str, str] = {}
        self._by_sds = False

    def certificate(self, found: Certificate) -> Resource:
        """Where a certificate comes from."""
        if found.sds:
            return self._sds(found.sds.secret_name)
        assert found.file is not None, "`check` refuses certificates that nothing can bring"
        chain, key = found.file.certificate_chain, found.file.private_key
        value = {
            "tls_certificate": {
                "certificate_chain": {"filename": chain},
                "private_key": {"filename": key},
                "watched_directory": {"path": str(PurePosixPath(chain).parent)},
            }
        }
        return self._file(f"certificate:{chain}:{key}", value)

    def trust(self, found: Trust) -> Resource:
        """Where the CAs come from."""
        if found.sds:
            return self._sds(found.sds.secret_name)
        assert found.file is not None, "`check` refuses CAs that nothing can bring"
        chain = found.file.certificate_chain
        value = {
            "validation_context": {
                "trusted_ca": {"filename": chain},
                "watched_directory": {"path": str(PurePosixPath(chain).parent)},
            }
        }
        return self._file(f"trust:{chain}", value)

    def files(self) -> dict[str, str]:
        """What the Envoy reads them from."""
        return dict(self._files)

    def clusters(self) -> list[Resource]:
        """The agent on its socket, where one is asked."""
        if not self._by_sds:
            return []
        endpoint = {"endpoint": {"address": {"pipe": {"path": str(self._socket)}}}}
        return [
            {
                "name": SDS_CLUSTER,
                "type": "STATIC",
                "connect_timeout": "1s",
                "load_assignment": {"cluster_name": SDS_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
                **http2_upstream(),
            }
        ]

    def _sds(self, name: str) -> Resource:
        self._by_sds = True
        service = {"envoy_grpc": {"cluster_name": SDS_CLUSTER}}
        source = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [service]}
        return {"name": name, "sds_config": {"api_config_source": source, "resource_api_version": "V3"}}

    def _file(self, what: str, value: Resource) -> Resource:
        name = f"sds_{hashlib.sha256(what.encode()).hexdigest()[:12]}"
        self._files[f"{name}.yaml"] = discovery(_SECRET, [{"name": name, **value}])
        return {"name": name, "sds_config": from_file(str(self._config), f"{name}.yaml")}


def server_sockets(tls: ListenerTls | None, filters: Sequence[Resource], secrets: Secrets, match: Resource) -> Resource:
    """The filter chains of a listener: by TLS, in plain text, or both; and what tells them apart."""
    plain: Resource = {"filters": list(filters)}
    if match:
        plain["filter_chain_match"] = match
    if tls is None or tls.mode == "DISABLED":
        return {"filter_chains": [plain]}
    context: Resource = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [secrets.certificate(tls.certificate)],
    }
    if tls.validation:
        names = tls.validation.subject_alternative_names
        context |= _validated(secrets.trust(tls.validation.trust), _names(names) if names else [])
    socket = extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=tls.validation is not None,
        common_tls_context=context,
    )
    if tls.mode == "STRICT":
        return {"filter_chains": [{**plain, "transport_socket": socket}]}
    inspector = extension("envoy.filters.listener.tls_inspector", "filters.listener.tls_inspector.v3.TlsInspector")
    by_tls = {
        "filter_chain_match": {**match, "transport_protocol": "tls"},
        "filters": list(filters),
        "transport_socket": socket,
    }
    in_plain = {**plain, "filter_chain_match": {**match, "transport_protocol": "raw_buffer"}}
    return {"listener_filters": [inspector], "filter_chains": [by_tls, in_plain]}


def client_socket(policy: ClientPolicy | None, listener: Listener, hostname: str, secrets: Secrets) -> Resource:
    """How a node's listener is dialled.

    A client policy that holds for its port says it. Without one, a listener that takes TLS is called by TLS, and who
    answers is not checked: that is what App Mesh did.
    """
    port, server = listener.port_mapping.port, listener.tls
    takes_tls = server is not None and server.mode != "DISABLED"
    tls = policy.tls if policy and policy.tls and port in (policy.tls.ports or (port,)) else None
    if not takes_tls and not (tls and tls.enforce):
        return {}
    alpn = ["h2"] if listener.port_mapping.protocol in ("grpc", "http2") else []
    context: Resource = {"alpn_protocols": alpn} if alpn else {}
    if tls:
        if tls.certificate:
            context["tls_certificate_sds_secret_configs"] = [secrets.certificate(tls.certificate)]
        names = tls.validation.subject_alternative_names
        expected = _names(names) if names else [_name(hostname)]
        context |= _validated(secrets.trust(tls.validation.trust), expected)
    socket = extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        sni=hostname,
        common_tls_context=context,
    )
    return {"transport_socket": socket}


def _validated(trust: Resource, names: Sequence[Resource]) -> Resource:
    own = {"match_typed_subject_alt_names": list(names)} if names else {}
    return {
        "combined_validation_context": {
            "default_validation_context": own,
            "validation_context_sds_secret_config": trust,
        }
    }


def _names(found: SubjectAlternativeNames) -> list[Resource]:
    return [_name(name) for name in found.match.exact]


def _name(name: str) -> Resource:
    return {"san_type": "URI" if "://" in name else "DNS", "matcher": {"exact": name}}
