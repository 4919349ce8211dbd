"""Addresses: of mail, as people are known by; and of the network, as attempts are counted by."""

import ipaddress
import re

from mesh.errors import field_invalid

# RFC 5321, section 4.5.3.1.1; RFC 5322, section 3.2.3 (dot-atom); and a host of the public DNS, which has a dot (RFC
# 7085) and whose last label is not a number. Others are addresses to some program, and no letter reaches them.
_LOCAL_PART = re.compile(r"(?=.{1,64}$)[^@.]+(\.[^@.]+)*")
_DOMAIN = re.compile(r"(?=.{1,253}$)[^@]+\.(?=[^@.]*[^@.0-9])[^@.]+")


def normalise(email: str) -> str:
    """The one spelling under which an address of mail is stored and compared.

    The contract admits ASCII only (an international domain comes as punycode), so lower case is all there is to do: no
    Unicode folding by which two people's addresses could become one.

    Raises:
        InvalidArgument: FIELD_INVALID, for an address that isn't ASCII, or that no letter can be sent to.
    """
    local_part, _, domain = email.partition("@")
    if not (
        email.isascii() and email.isprintable() and _LOCAL_PART.fullmatch(local_part) and _DOMAIN.fullmatch(domain)
    ):
        raise field_invalid("email", "must be an address that a letter can be sent to: name@example.com")
    return email.lower()


_WIDTHS = {4: (24, 32), 6: (48, 56, 64)}
"""Lengths of prefixes: of a neighbourhood or a customer (an IPv6 customer has a /48 or a /56), of a host or a network
at home. None wider: the customers of a provider have nothing to do with each other, and most of those who sign in come
from a few providers.
"""


def networks(address: str) -> tuple[str, ...]:
    """The networks that an IP address lies in, from the widest to the narrowest.

    What is not an IP address is in one without a name.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return ("",)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return tuple(str(ipaddress.ip_network((ip, width), strict=False)) for width in _WIDTHS[ip.version])
