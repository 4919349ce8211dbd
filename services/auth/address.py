"""Addresses: of mail, as people are known by; and of the network, as attempts are counted by."""

import ipaddress
import re

from mesh.errors import field_invalid

# RFC 5321, section 4.5.3.1.1; RFC 5322, section 3.2.3 (dot-atom); and a host of the public DNS, which has a dot (RFC 7085)
# and whose last label is no number. Others are addresses to some program, and no letter reaches them.
_LOCAL_PART = re.compile(r"(?=.{1,64}$)[^@.]+(\.[^@.]+)*")
_DOMAIN = re.compile(r"(?=.{1,253}$)[^@]+\.(?=[^@.]*[^@.0-9])[^@.]+")


def normalise(email: str) -> str:
    """The one spelling under which an address of mail is stored and compared.

    The contract admits ASCII only (an international domain comes as punycode), so lower case is all there is to do: no Unicode folding by which two
    people's addresses could become one.

    Raises:
        InvalidArgument: FIELD_INVALID, for an address that isn't ASCII, or that no letter can be sent to.
    """
    local_part, _, domain = email.partition("@")
    if not (email.isascii() and email.isprintable() and _LOCAL_PART.fullmatch(local_part) and _DOMAIN.fullmatch(domain)):
        raise field_invalid("email", "must be an address that a letter can be sent to: name@example.com")
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
