"""A verifier by somebody else, written from docs/audit.md alone: it knows JSON, SHA-256, ECDSA and nothing of ours.

It walks each chain backwards, from what the newest checkpoint vouches for, and so needs no rule for forks: what it does
not come by is forged. It says less than `authmesh audit verify` about what happened, and finds the same.
"""

import base64
import gzip
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

FIELDS = (
    "eventId", "source", "sequence", "eventTime", "type", "outcome", "reason", "actor", "subject", "session", "client",
    "target", "address",
    "userAgent", "email", "requestId", "traceId", "detail", "previousHash", "sealed",
)  # fmt: skip
"""The members of an event, in the order of their numbers in protobuf: from 1 to 20."""
OUTCOMES = ("OUTCOME_UNSPECIFIED", "OUTCOME_SUCCESS", "OUTCOME_FAILURE")


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value) if value else b""


def bytes_field(number: int, value: bytes, *, always: bool = False) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value if value or always else b""


def protobuf(event: Mapping[str, Any]) -> bytes:
    """The bytes that the chain runs over."""
    encoded = b""
    for number, name in enumerate(FIELDS, 1):
        if name not in event:
            continue
        value = event[name]
        match name:
            case "sequence":
                encoded += number_field(number, int(value))
            case "outcome":
                encoded += number_field(number, OUTCOMES.index(value))
            case "eventTime":
                whole, _, fraction = value.removesuffix("Z").partition(".")
                seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
                encoded += bytes_field(
                    number, number_field(1, seconds) + number_field(2, int(fraction.ljust(9, "0") or 0)), always=True
                )
            case "detail":
                for key, text in sorted(value.items(), key=lambda item: [*item[0].encode(), 256]):
                    entry = bytes_field(1, key.encode(), always=True) + bytes_field(2, text.encode(), always=True)
                    encoded += bytes_field(number, entry)
            case "previousHash" | "sealed":
                encoded += bytes_field(number, base64.b64decode(value))
            case _:
                encoded += bytes_field(number, value.encode())
    assert not event.keys() - set(FIELDS), "a member of a newer release"
    return encoded


def merkle_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"")
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + merkle_root(leaves[:split]) + merkle_root(leaves[split:]))


def leaf(line: bytes) -> bytes:
    return sha256(b"\x00" + line)


def lines_of(body: bytes) -> list[bytes]:
    return gzip.decompress(body).split(b"\n")[:-1]


def statements(objects: Mapping[str, bytes], folder: str, pem: str) -> list[dict[str, Any]]:
    """Signed, numbered and chained, or an error."""
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, EllipticCurvePublicKey)
    found, previous = [], b""
    for number, name in enumerate(sorted(name for name in objects if name.startswith(folder)), 1):
        assert name == f"{folder}{number:016d}.jsonl", f"{name} is not the statement {number}"
        document, signature, _ = objects[name].split(b"\n")
        try:
            key.verify(base64.b64decode(json.loads(signature)["signature"]), document, ECDSA(SHA256()))
        except InvalidSignature:
            raise AssertionError(f"{name} is not signed") from None
        statement = json.loads(document)
        assert (statement["number"], statement["previous"]) == (number, previous.hex()), f"{name} does not follow"
        found.append(statement)
        previous = sha256(document)
    return found


def link(event: Mapping[str, Any]) -> bytes:
    """What the next event names as `previousHash`."""
    if event["type"] == "audit.parked" and "replaces" in event.get("detail", {}):
        return bytes.fromhex(event["detail"]["replaces"])
    return sha256(protobuf(event))


def verify(objects: Mapping[str, bytes], pems: Mapping[str, str]) -> list[str]:
    """What is found, as `kind about`. Signatures and checkpoints must be good: an AssertionError says what is not."""
    checkpoints = statements(objects, "checkpoints/", pems["checkpoints"])
    acknowledged = {
        (finding["kind"], finding["about"])
        for statement in (
            statements(objects, "acknowledgements/", pems["acknowledgements"]) if "acknowledgements" in pems else []
        )
        for finding in statement["findings"]
    }
    for checkpoint in checkpoints:
        for listed in checkpoint["objects"]:
            assert listed["key"] in objects, f"{listed['key']} was deleted"
            root = merkle_root([leaf(line) for line in lines_of(objects[listed["key"]])]).hex()
            assert root == listed["root"], f"{listed['key']} was changed"
        if "acknowledgements" in checkpoint:
            anchor = checkpoint["acknowledgements"]
            body = objects[f"acknowledgements/{anchor['number']:016d}.jsonl"]
            assert sha256(body.partition(b"\n")[0]).hex() == anchor["hash"], (
                f"acknowledgement {anchor['number']} was replaced"
            )
    events: defaultdict[str, dict[tuple[int, bytes], dict[str, Any]]] = defaultdict(dict)
    for key, body in objects.items():
        if matched := re.fullmatch(r"audit/source=([a-z-]+)/dt=[0-9-]+/\d{16}-\d{16}-([0-9a-f]{32})\.jsonl\.gz", key):
            assert sha256(b"".join(line + b"\n" for line in lines_of(body))).hex().startswith(matched[2]), (
                f"{key} was changed"
            )
            for line in lines_of(body):
                event = json.loads(line)
                events[matched[1]][int(event["sequence"]), sha256(protobuf(event))] = event
    found = []
    for source, head in checkpoints[-1]["sources"].items():
        found += check_chain(source, head, events[source].values())
    return [finding for finding in found if tuple(finding.split(" ", 1)) not in acknowledged]


def check_chain(source: str, head: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> list[str]:
    """Backwards from the head."""
    at: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        at[int(event["sequence"])].append(event)
    wanted, chain, stated, tombstones = bytes.fromhex(head["hash"]), [], set(), []
    for number in range(head["sequence"], 0, -1):
        here = [event for event in at[number] if link(event) == wanted]
        assert here, f"event {number} of {source} is not there, or was changed"
        event = min(here, key=lambda candidate: candidate["type"] == "audit.parked")
        chain.append(event)
        tombstones += [stone for stone in here if "replaces" in stone.get("detail", {})]
        if event["type"] == "audit.event_parked":
            said = event["detail"]
            stated.add((said["number"], said["hash"], said["tombstone"]))
        wanted = base64.b64decode(event.get("previousHash", ""))
    assert wanted == b"", f"the first event of {source} follows another one"
    for stone in tombstones:
        itself = sha256(protobuf(stone)).hex()
        assert (stone["sequence"], stone["detail"]["replaces"], itself) in stated, (
            f"{source} states nothing of the tombstone at {stone['sequence']}"
        )
    off = [
        (int(event["sequence"]), link(event).hex())
        for event in events
        if event not in chain and event not in tombstones
    ]
    return [f"forged {source} {number}-{number} {hash_}" for number, hash_ in sorted(off) if number <= head["sequence"]]
