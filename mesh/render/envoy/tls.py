"""Who a connection comes from and goes to: mTLS inside the mesh, TLS at the public listener.

Certificates come by file SDS and reload alone.
"""

from pathlib import Path

from mesh.model.mesh import Mesh
from mesh.render.envoy.placement import Placement
from mesh.render.envoy.resource import Resource, discovery, extension, from_file

IDENTITY_FILE = "sds_identity.yaml"
TRUST_FILE = "sds_trust.yaml"
PUBLIC_FILE = "sds_public.yaml"

_SECRET = "transport_sockets.tls.v3.Secret"
# Both ends are Envoys of one release, so nothing older than TLS 1.3 is needed.
_MESH_TLS: Resource = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}


def secrets(placement: Placement) -> dict[str, str]:
    """The SDS files: the mesh identity, the mesh's CA and, at the gateway, the public certificate."""
    files = {
        IDENTITY_FILE: discovery(_SECRET, [_certificate("identity", placement.certificates)]),
        TRUST_FILE: discovery(
            _SECRET,
            [
                {
                    "name": "trust",
                    "validation_context": {
                        "trusted_ca": {"filename": f"{placement.certificates}/ca.crt"},
                        "watched_directory": {"path": str(placement.certificates)},
                    },
                }
            ],
        ),
    }
    if placement.public_certificates is not None:
        files[PUBLIC_FILE] = discovery(_SECRET, [_certificate("public", placement.public_certificates)])
    return files


def mesh_server(mesh: Mesh, placement: Placement) -> Resource:
    """Transport socket of an ingress listener: only peers with an identity of the mesh get a connection."""
    return extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=True,
        common_tls_context=_mesh_context(placement, {"prefix": mesh.spiffe_ids.prefix}),
    )


def mesh_client(mesh: Mesh, placement: Placement, node: str) -> Resource:
    """Transport socket towards a node: it must prove that it is that node."""
    return extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=_mesh_context(placement, {"exact": mesh.spiffe_ids.of(node)}),
    )


def public_server(placement: Placement) -> Resource:
    """Transport socket of the public listener: HTTP/2 and HTTP/1.1."""
    return extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificate_sds_secret_configs": [
                {"name": "public", "sds_config": from_file(str(placement.config), PUBLIC_FILE)}
            ],
        },
    )


def _mesh_context(placement: Placement, peer: Resource) -> Resource:
    return {
        "alpn_protocols": ["h2"],
        "tls_params": _MESH_TLS,
        "tls_certificate_sds_secret_configs": [
            {"name": "identity", "sds_config": from_file(str(placement.config), IDENTITY_FILE)}
        ],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": peer}]},
            "validation_context_sds_secret_config": {
                "name": "trust",
                "sds_config": from_file(str(placement.config), TRUST_FILE),
            },
        },
    }


def _certificate(name: str, folder: Path) -> Resource:
    return {
        "name": name,
        "tls_certificate": {
            "certificate_chain": {"filename": f"{folder}/tls.crt"},
            "private_key": {"filename": f"{folder}/tls.key"},
            "watched_directory": {"path": str(folder)},
        },
    }
