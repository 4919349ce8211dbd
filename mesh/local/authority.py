"""Certificates of the local mesh.

One authority for the nodes' identities (SPIFFE, mutual TLS) and another for the public edge.

Leaves live for a day and are issued anew at each start and twice a day. They are replaced as Kubernetes replaces
secrets: a directory is written aside, then a symlink to it is renamed into place, so that Envoy, which watches the
directory, never sees a certificate with another one's key.
"""

import datetime as dt
import ipaddress
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.operator.errors import OperatorError, explain
from mesh.operator.secret_file import private_directory, write_private
from mesh.spiffe import SpiffeIds

AUTHORITY_LIFETIME = dt.timedelta(days=3650)
LEAF_LIFETIME = dt.timedelta(hours=24)
RENEW_EVERY = dt.timedelta(hours=12)
BACKDATED = dt.timedelta(minutes=5)
"""For clocks that are a little behind."""
LOOPBACK: tuple[x509.GeneralName, ...] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("::1")),
)


@dataclass(frozen=True, slots=True)
class Authority:
    """A key that signs certificates, and its own."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def load_or_create(cls, directory: Path, name: str, permitted: Sequence[x509.GeneralName]) -> "Authority":
        """The authority in `directory` (`<name>.crt`, `<name>.key`); made first if there is none.

        Args:
            directory: private to this account.
            name: Names the files.
            permitted: The only names that it may certify (RFC 5280, 4.2.1.10): a client that trusts it trusts it for no
                more. IP addresses can't be limited: BoringSSL, which gRPC clients verify with, refuses such an
                authority.

        Raises:
            OperatorError: its files can't be read or written.
        """
        certificate_file, key_file = directory / f"{name}.crt", directory / f"{name}.key"
        try:
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        except FileNotFoundError:
            authority = cls._made(f"authmesh local {name}", permitted)
            write_private(key_file, _key_pem(authority.key))
            write_private(certificate_file, authority.pem)
            return authority
        except OSError as error:
            raise explain(error, f"read the certificate authority in {directory}") from None
        except ValueError:
            raise OperatorError(
                f"the certificate authority in {directory} is damaged: remove that directory and start again"
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise OperatorError(f"{key_file} is not an EC key: remove it and start again")
        return cls(certificate, key)

    @classmethod
    def _made(cls, common_name: str, permitted: Sequence[x509.GeneralName]) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{common_name} {secrets.token_hex(4)}")])
        certificate = (
            _draft(name, name, key.public_key(), AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.NameConstraints(permitted, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, names: Sequence[x509.GeneralName], *, common_name: str | None = None, client: bool = True
    ) -> tuple[bytes, bytes]:
        """A new certificate and its new key, both PEM, for a day.

        Args:
            names: Subject alternative names.
            common_name: Subject, for people who look at it. Without one the alternative names are critical, as SPIFFE
                wants it.
            client: whether it may also be shown to servers.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if client else [])]
        certificate = (
            _draft(subject, self.certificate.subject, key.public_key(), LEAF_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=common_name is None)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)


@dataclass(frozen=True, slots=True)
class MeshAuthorities:
    """Both authorities of a mesh, and where the leaves go."""

    identities: Authority
    public: Authority
    ids: SpiffeIds
    edge_names: tuple[x509.GeneralName, ...]
    directory: Path
    """`<directory>/<node>/` gets tls.crt, tls.key and ca.crt; `<directory>/public/` what the edge shows to clients."""

    @classmethod
    def load_or_create(
        cls, keys: Path, certificates: Path, ids: SpiffeIds, edge_names: tuple[x509.GeneralName, ...] = LOOPBACK
    ) -> "MeshAuthorities":
        """The authorities in `keys`; made first if there are none.

        Args:
            keys: Directory of the authorities.
            certificates: Directory of the leaves.
            ids: The nodes' identities.
            edge_names: What clients call the edge. Other DNS names get another authority, which can certify no others.

        Raises:
            OperatorError: files can't be read or written.
        """
        private_directory(keys)
        private_directory(certificates)
        identities = Authority.load_or_create(keys, "mesh-ca", [x509.UniformResourceIdentifier(ids.trust_domain)])
        in_dns = [name for name in edge_names if isinstance(name, x509.DNSName)]
        further = [name.value for name in in_dns if name not in LOOPBACK]
        public = Authority.load_or_create(keys, "-".join(("edge-ca", *further)), in_dns)
        return cls(identities, public, ids, edge_names, certificates)

    def certificates(self, node: str) -> Path:
        """Directory of a node's mesh identity."""
        return self.directory / node

    @property
    def public_certificates(self) -> Path:
        """Directory of what the edge shows to clients."""
        return self.directory / "public"

    def issue(self, nodes: Sequence[str]) -> None:
        """Gives each node a new identity, and the edge a new public certificate.

        Raises:
            OperatorError: files can't be written.
        """
        for node in nodes:
            certificate, key = self.identities.issue([x509.UniformResourceIdentifier(self.ids.of(node))])
            _replace(self.certificates(node), {"tls.crt": certificate, "tls.key": key, "ca.crt": self.identities.pem})
        certificate, key = self.public.issue(self.edge_names, common_name="authmesh edge", client=False)
        _replace(self.public_certificates, {"tls.crt": certificate, "tls.key": key, "ca.crt": self.public.pem})


def _replace(directory: Path, files: dict[str, bytes]) -> None:
    private_directory(directory)
    version = f"..{secrets.token_hex(8)}"
    try:
        (directory / version).mkdir(mode=0o700)
        for name, content in files.items():
            write_private(directory / version / name, content)
        link = directory / "..data.new"
        link.unlink(missing_ok=True)
        link.symlink_to(version)
        link.rename(directory / "..data")
        for name in files:
            if not (directory / name).is_symlink():
                (directory / name).symlink_to(Path("..data") / name)
        for old in directory.glob("..*"):
            if old.name not in {version, "..data"}:
                shutil.rmtree(old)
    except OSError as error:
        raise explain(error, f"write certificates to {directory}") from None


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: dt.timedelta
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
