"""The largest request of each RPC, by the field rules of the contract."""

import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from mesh.contract import Contract, Rpc
from mesh.render.request_size import request_limit
from mesh.rpc.fields import Field, fields_of

CONTRACT = Contract.load()
RPCS = list(CONTRACT.rpcs.values())
KIB = 1024
TIMES = {
    "google.protobuf.Timestamp": '"2026-12-31T23:59:59.123456789Z"',
    "google.protobuf.Duration": '"315576000000.123456789s"',
}


def fill(message: Message) -> None:
    """Every field as long as its rules let it be; of a oneof, the last."""
    if message.DESCRIPTOR.full_name in TIMES:
        json_format.Parse(TIMES[message.DESCRIPTOR.full_name], message)
        return
    sized = {field.name: field for field in fields_of(message.DESCRIPTOR)}
    for field in message.DESCRIPTOR.fields:
        if (rules := sized.get(field.name)) is None:
            value = (
                field.enum_type.values[-1].number
                if field.enum_type
                else field.type == FieldDescriptor.TYPE_BOOL or 2**31 - 1
            )
            setattr(message, field.name, value)
        elif rules.message is not None:
            fill(getattr(message, field.name).add() if rules.repeated else getattr(message, field.name))
        elif rules.repeated:
            getattr(message, field.name).extend([longest(rules)] * (rules.items or 0))
        else:
            setattr(message, field.name, longest(rules))


def longest(rules: Field) -> Any:
    if not rules.is_string:
        return b"\xff" * rules.short
    # Text in a script that JSON may escape.
    return (
        "\u0436" * min(rules.characters or 2**20, (rules.octets or 2**21) // 2) if rules.is_text else "x" * rules.short
    )


@pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.path.rpartition(".")[2])
def test_the_longest_valid_request_is_within_the_limit_in_every_form(rpc: Rpc) -> None:
    request = CONTRACT.message_type(rpc.input_type)()
    fill(request)
    escaped = json.dumps(json.loads(json_format.MessageToJson(request)))
    assert len(escaped.encode()) <= request_limit(CONTRACT, rpc)
    assert 5 + request.ByteSize() <= request_limit(CONTRACT, rpc)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("AuthService/SignIn", 4 * KIB),
        ("AuthService/SignUp", 4 * KIB),
        ("TokenService/RefreshToken", 4 * KIB),
        ("TokenService/GetJwks", 4 * KIB),
        ("TokenService/RevokeToken", 16 * KIB),
        ("ResourceService/CreateResource", 128 * KIB),
    ],
)
def test_limits_of_well_known_rpcs(name: str, limit: int) -> None:
    (rpc,) = (rpc for rpc in RPCS if rpc.path.endswith(f".{name}"))
    assert request_limit(CONTRACT, rpc) == limit


def test_strangers_can_make_no_one_hold_much() -> None:
    public = [rpc for rpc in RPCS if rpc.access.WhichOneof("kind") == "public"]
    assert max(request_limit(CONTRACT, rpc) for rpc in public) <= 32 * KIB
