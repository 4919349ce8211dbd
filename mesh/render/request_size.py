"""How large a request may be, for each RPC: as large as the field rules of its proto let it be, and no larger.

The edge keeps a request until it is whole, so this is what one call can make it hold. It follows from the contract
alone: an RPC whose fields have other bounds gets another limit with the next rendering.
"""

from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from mesh.contract import Contract, Rpc
from mesh.rpc.fields import Field, fields_of

SMALLEST = 4096
"""Bytes that any request may have: room for clients that send fields which a newer contract has."""

_TIMES = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration"})
_SCALAR = 32
"""A number, an enum's name, a time: the longest of their JSON forms."""
_PUNCTUATION = 6
"""Quotes, colon, comma and a space around a JSON member."""
_GRPC_PREFIX = 5
_ESCAPED_CHARACTER = 6
"""Bytes of a character of text. JSON may write it as \\uXXXX; those that need two of them are rare."""
_ESCAPED_OCTET = 3
"""Of a byte of text: letters of two bytes are six when they are escaped."""


def request_limit(contract: Contract, rpc: Rpc) -> int:
    """Bytes of the largest request that the edge takes for an RPC.

    A power of two with room for the longest valid one.
    """
    limit = SMALLEST
    while limit < longest_request(contract, rpc):
        limit *= 2
    return limit


def longest_request(contract: Contract, rpc: Rpc) -> int:
    """Bytes of the longest request that keeps to the field rules, in JSON, whose form is the longest.

    Text is counted as in scripts that JSON may escape; what is not text (names, tokens, passwords) as ASCII.
    """
    descriptor = contract.message_type(rpc.input_type).DESCRIPTOR
    assert descriptor is not None
    return _GRPC_PREFIX + _longest(descriptor)


@cache
def _longest(message: Descriptor) -> int:
    sized = {field.name: field for field in fields_of(message)}
    members = (len(field.name) + _PUNCTUATION + _value(field, sized.get(field.name)) for field in message.fields)
    return 2 + sum(members)


def _value(field: FieldDescriptor, sized: Field | None) -> int:
    if sized is None:
        return _SCALAR
    if sized.message is not None:
        item = _SCALAR if sized.message.full_name in _TIMES else _longest(sized.message)
    elif sized.is_string:
        item = _string(sized)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        # base64
        item = 4 * (sized.short + 2) // 3
    else:
        item = _SCALAR
    # `test_fields.py` holds every repeated field to having a bound.
    return item if not sized.repeated else (sized.items or 0) * (item + _PUNCTUATION)


def _string(field: Field) -> int:
    if not field.is_text:
        return field.short
    sizes = (field.characters, _ESCAPED_CHARACTER), (field.octets, _ESCAPED_OCTET)
    return min(limit * bytes_each for limit, bytes_each in sizes if limit is not None)
