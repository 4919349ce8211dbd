"""Certificates of the local mesh."""

import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from mesh.local.authority import LOOPBACK, Authority, MeshAuthorities
from mesh.operator.errors import OperatorError
from mesh.spiffe import SpiffeIds

NAMES = (x509.DNSName("localhost"),)


@pytest.fixture
def authorities(tmp_path: Path) -> MeshAuthorities:
    authorities = MeshAuthorities.load_or_create(tmp_path / "keys", tmp_path / "certificates", SpiffeIds())
    authorities.issue(["auth", "edge"])
    return authorities


def certificate(directory: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / "tls.crt").read_bytes())


def test_a_node_is_its_spiffe_id_and_nothing_else(authorities: MeshAuthorities) -> None:
    leaf = certificate(authorities.certificates("auth"))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.UniformResourceIdentifier("spiffe://authmesh/auth")]
    assert names.critical, "RFC 5280, 4.2.1.6: without a subject the names are critical"
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)


def test_an_identity_is_good_for_a_day_at_most(authorities: MeshAuthorities) -> None:
    leaf = certificate(authorities.certificates("auth"))
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() < 25 * 3600


def test_files_are_private(authorities: MeshAuthorities) -> None:
    for name in ("tls.crt", "tls.key", "ca.crt"):
        assert (authorities.certificates("auth") / name).stat().st_mode & 0o777 == 0o600


def test_key_and_certificate_belong_together_and_change_together(authorities: MeshAuthorities) -> None:
    directory = authorities.certificates("auth")
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(directory / "tls.crt", directory / "tls.key")
    first, version = certificate(directory), (directory / "..data").readlink()
    authorities.issue(["auth"])
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(directory / "tls.crt", directory / "tls.key")
    assert certificate(directory).serial_number != first.serial_number
    assert not (directory / version).exists()


def test_the_edge_is_known_by_its_loopback_names(authorities: MeshAuthorities) -> None:
    leaf = certificate(authorities.public_certificates)
    verifier = PolicyBuilder().store(Store([authorities.public.certificate]))
    for name in LOOPBACK:
        assert isinstance(name, x509.DNSName | x509.IPAddress)
        verifier.build_server_verifier(name).verify(leaf, [])


def test_the_public_authority_is_good_for_loopback_only(authorities: MeshAuthorities) -> None:
    """Somebody will put it into a browser."""
    elsewhere = x509.DNSName("bank.example")
    pem, _ = authorities.public.issue([elsewhere], common_name="bank.example")
    verifier = PolicyBuilder().store(Store([authorities.public.certificate])).build_server_verifier(elsewhere)
    with pytest.raises(VerificationError):
        verifier.verify(x509.load_pem_x509_certificate(pem), [])


def test_another_name_of_the_edge_gets_an_authority_of_its_own(tmp_path: Path) -> None:
    """One that was installed on a phone must not certify names that it was not installed for, and stays good when
    localhost comes and goes."""
    laptop = x509.DNSName("laptop.local")

    def of(*names: x509.GeneralName) -> MeshAuthorities:
        authorities = MeshAuthorities.load_or_create(
            tmp_path, tmp_path / "certificates", SpiffeIds(), (*LOOPBACK, *names)
        )
        authorities.issue([])
        return authorities

    first = of(laptop)
    verifier = PolicyBuilder().store(Store([first.public.certificate]))
    verifier.build_server_verifier(laptop).verify(certificate(first.public_certificates), [])
    verifier.build_server_verifier(NAMES[0]).verify(certificate(first.public_certificates), [])
    plain = of()
    assert plain.public.pem not in (first.public.pem, first.identities.pem)
    with pytest.raises(VerificationError):
        PolicyBuilder().store(Store([plain.public.certificate])).build_server_verifier(laptop).verify(
            certificate(of(laptop).public_certificates), []
        )
    assert of(laptop).public.pem == first.public.pem
    address = x509.IPAddress(ipaddress.ip_address("192.168.1.20"))
    assert of(address).public.pem == plain.public.pem


def test_authorities_are_kept(tmp_path: Path) -> None:
    first = MeshAuthorities.load_or_create(tmp_path, tmp_path / "certificates", SpiffeIds())
    again = MeshAuthorities.load_or_create(tmp_path, tmp_path / "certificates", SpiffeIds())
    assert (first.identities.pem, first.public.pem) == (again.identities.pem, again.public.pem)
    assert first.identities.pem != first.public.pem


def test_a_damaged_authority_is_named(tmp_path: Path) -> None:
    Authority.load_or_create(tmp_path, "mesh-ca", NAMES)
    (tmp_path / "mesh-ca.crt").write_text("no certificate")
    with pytest.raises(OperatorError, match="damaged"):
        Authority.load_or_create(tmp_path, "mesh-ca", NAMES)
