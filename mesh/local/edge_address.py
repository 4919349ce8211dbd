"""How clients call the edge, and where it listens.

As `localhost` on loopback, or also in the network, as EDGE_HOST says.
"""

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass

from cryptography import x509

from mesh.local import authority
from mesh.local.ports import HOST, is_free
from mesh.operator.errors import OperatorError

LOCALHOST = "localhost"
LOOPBACK = (HOST, "::1")
EVERYWHERE = "0.0.0.0"
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


def edge_host(text: str) -> str:
    """The host that EDGE_HOST names: an IP address, or a DNS name.

    Raises:
        OperatorError: it is neither, or none that a client can call.
    """
    host = text.lower()
    address = _ip(host)
    if address is not None and (address.is_unspecified or address.is_multicast or getattr(address, "scope_id", None)):
        raise OperatorError(
            f"EDGE_HOST={text} is not an address that a client can call: name this machine's own, "
            f"such as {own_address()}"
        )
    if address is None and (not _NAME.fullmatch(host) or host.replace(".", "").isdigit()):
        raise OperatorError(
            f"EDGE_HOST={text} is not a host: write an IP address or a DNS name, without scheme and port"
        )
    return str(address) if address else host


@dataclass(frozen=True, slots=True)
class EdgeAddress:
    """The address of the edge."""

    host: str
    """As clients call it."""
    port: int
    listening: tuple[str, ...]
    """IP addresses."""

    @classmethod
    def of(cls, host: str, port: int) -> "EdgeAddress":
        """The address with this host (`edge_host`) and this port.

        Raises:
            OperatorError: the host is not this machine.
        """
        loopback = tuple(address for address in LOOPBACK if _is_own(address))
        if host == LOCALHOST:
            return cls(host, port, loopback)
        address = _ip(host)
        if address is None:
            # Whatever it resolves to, and whatever other machines take it for.
            return cls(host, port, loopback if _is_loopback(host) else (EVERYWHERE, *loopback[1:]))
        if not _is_own(host):
            raise OperatorError(f"EDGE_HOST={host} is not an address of this machine: {own_address()} is")
        return cls(host, port, tuple(dict.fromkeys((*loopback, host))))

    @property
    def url(self) -> str:
        """What clients call, and `iss` of every token: metadata is found from it (RFC 8414)."""
        return f"https://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def local_url(self) -> str:
        """The same edge for this machine, which may not know itself by the name that others use."""
        return f"https://{LOCALHOST}:{self.port}"

    @property
    def is_open(self) -> bool:
        """Whether other machines can call it."""
        return any(not ipaddress.ip_address(address).is_loopback for address in self.listening)

    @property
    def names(self) -> tuple[x509.GeneralName, ...]:
        """What its certificate is good for."""
        own = x509.IPAddress(address) if (address := _ip(self.host)) else x509.DNSName(self.host)
        return tuple(dict.fromkeys((*authority.LOOPBACK, own)))

    def is_free(self) -> bool:
        """Whether it could listen now, on each of its addresses.

        Raises:
            OperatorError: the port needs a privilege that we don't have.
        """
        return all(is_free(self.port, address) for address in self.listening)


def own_address() -> str:
    """The address of this machine in its network: the one that its calls to elsewhere come from. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return HOST
        return str(probe.getsockname()[0])


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_own(address: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def _is_loopback(name: str) -> bool:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address).is_loopback for address in found)
