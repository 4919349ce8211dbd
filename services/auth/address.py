"""Addresses: of mail, as people are known by; and of the network, as attempts are counted by."""

import ipaddress

from mesh.errors import field_invalid


def normalise(email: str) -> str:
    """The one spelling under which an address of mail is stored and compared.

    The contract admits ASCII only (an international domain comes as punycode), so lower case is all there is to do: no Unicode folding by which two
    people's addresses could become one.

    Raises:
        InvalidArgument: FIELD_INVALID, for an address that isn't ASCII or is empty.
    """
    if not email or not email.isascii() or not email.isprintable():
        raise field_invalid("email", "must be an address of mail")
    return email.lower()


def block(address: str) -> str:
    """The network that an IP address belongs to: /24 of IPv4, /48 of IPv6, which is what one customer gets. Empty for what is no IP address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))
