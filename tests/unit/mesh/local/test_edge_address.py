"""What the edge is called, and where it listens."""

import ipaddress

import pytest
from cryptography import x509

from mesh.local.edge_address import EVERYWHERE, EdgeAddress, edge_host, own_address
from mesh.operator.errors import OperatorError


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("localhost", "localhost"),
        ("Laptop.local", "laptop.local"),
        ("192.168.1.20", "192.168.1.20"),
        ("fd00::0002", "fd00::2"),
    ],
)
def test_a_host_is_a_name_or_an_address(text: str, host: str) -> None:
    assert edge_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "https://laptop",
        "laptop:8443",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "-laptop",
        "a..b",
        "1.2.3",
        "laptop.",
        "lap top",
        "*",
        "fe80::1%eth0",
    ],
)
def test_what_no_client_can_call_is_refused(text: str) -> None:
    with pytest.raises(OperatorError, match="EDGE_HOST="):
        edge_host(text)


def test_by_default_it_is_localhost_and_listens_on_loopback_only() -> None:
    edge = EdgeAddress.of("localhost", 8443)
    assert edge.url == edge.local_url == "https://localhost:8443"
    assert edge.listening[0] == "127.0.0.1"
    assert all(ipaddress.ip_address(address).is_loopback for address in edge.listening)
    assert not edge.is_open


def test_an_address_of_this_machine_opens_that_one_beside_loopback() -> None:
    edge = EdgeAddress.of(own_address(), 8443)
    assert edge.url == f"https://{own_address()}:8443"
    assert (edge.listening[0], edge.listening[-1]) == ("127.0.0.1", own_address())
    assert edge.is_open
    assert x509.IPAddress(ipaddress.ip_address(own_address())) in edge.names


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(OperatorError, match=f"203.0.113.7 is not an address of this machine: {own_address()} is"):
        EdgeAddress.of("203.0.113.7", 8443)


def test_a_name_opens_every_address_unless_it_means_loopback() -> None:
    edge = EdgeAddress.of("laptop.invalid", 8443)
    assert edge.listening[0] == EVERYWHERE
    assert edge.is_open
    assert x509.DNSName("laptop.invalid") in edge.names


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert EdgeAddress("fd00::2", 8443, ("fd00::2",)).url == "https://[fd00::2]:8443"
