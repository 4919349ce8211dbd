"""What an access token says (RFC 9068), with every type enforced."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LATEST = 2**53
"""Times beyond this are refused: not every JSON reader keeps such a number (RFC 8259, section 6)."""

# RFC 6749, section 3.3.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_ID = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Claims:
    """The verified content of one access token. Ids are bare, as in the token: no `users/` in front."""

    subject: str
    """`sub`: the user's id, or the client's where a client acts for itself."""
    session: str
    """`sid`: the session's id; empty where a client acts for itself."""
    client_id: str
    scopes: frozenset[str]
    roles: frozenset[str]
    token_id: str
    """`jti`."""
    issued_at: int
    """`iat`, Unix seconds."""
    expires_at: int
    """`exp`, Unix seconds."""
    auth_time: int
    """When the person proved who they are, Unix seconds; 0 when the token doesn't say."""
    amr: tuple[str, ...]
    """How they did (RFC 8176)."""
    key_id: str
    """`kid` of the key that signed it."""


class ClaimsError(ValueError):
    """The content is not a set of claims that this mesh accepts."""


def decode_object(encoded: bytes) -> dict[str, Any]:
    """Parses a JSON object as strictly as tokens need.

    UTF-8 without a byte order mark, no member twice, integers only, no lone surrogates.

    Raises:
        ClaimsError: it is anything else.
    """
    try:
        found = json.loads(
            encoded.decode(), object_pairs_hook=_once, parse_float=_refuse, parse_constant=_refuse, parse_int=_integer
        )
        # A lone surrogate passes json.loads and is not a character: two readers would see two strings.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ClaimsError("not strict JSON") from error
    if not isinstance(found, dict):
        raise ClaimsError("not a JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ClaimsError("a member appears twice")
    return members


def _refuse(_: str) -> Any:
    raise ClaimsError("not an integer")


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise ClaimsError("a number out of range")
    return int(digits)


def read_claims(payload: Mapping[str, Any], key_id: str) -> Claims:
    """The claims of a token, by RFC 9068 and ours. Issuer, audience and time are the verifier's.

    Raises:
        ClaimsError: a claim is missing or of the wrong type.
    """
    if "cnf" in payload:
        # Someone took a sender-bound token and sends it as a bearer token (RFC 9449, section 7.2). No binding is
        # checked here yet.
        raise ClaimsError("the token is bound to its sender")
    return Claims(
        subject=id_claim(payload, "sub"),
        session=id_claim(payload, "sid") if "sid" in payload else "",
        client_id=id_claim(payload, "client_id"),
        scopes=_scopes(payload.get("scope", "")),
        roles=frozenset(_strings(payload.get("roles", []), "roles")),
        token_id=id_claim(payload, "jti"),
        issued_at=time_claim(payload, "iat"),
        expires_at=time_claim(payload, "exp"),
        auth_time=time_claim(payload, "auth_time") if "auth_time" in payload else 0,
        amr=tuple(_strings(payload.get("amr", []), "amr")),
        key_id=key_id,
    )


def is_name(value: str) -> bool:
    """Whether a token can carry it as an id, a role or a method: 1 to 255 printable ASCII characters, no space."""
    return _ID.fullmatch(value) is not None


def not_before(payload: Mapping[str, Any]) -> int:
    """`nbf`, or 0 without one.

    Raises:
        ClaimsError: it is not a time.
    """
    return time_claim(payload, "nbf") if "nbf" in payload else 0


def id_claim(payload: Mapping[str, Any], name: str) -> str:
    """A claim that must be an id.

    Raises:
        ClaimsError: it is missing or none.
    """
    value = payload.get(name)
    if not isinstance(value, str) or not is_name(value):
        raise ClaimsError(f"{name} is not an id")
    return value


def time_claim(payload: Mapping[str, Any], name: str) -> int:
    """A claim that must be a time, Unix seconds.

    Raises:
        ClaimsError: it is missing or none.
    """
    value = payload.get(name)
    # bool is an int in Python, and `"exp": true` is 1970.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < LATEST:
        raise ClaimsError(f"{name} is not a time")
    return value


def _scopes(value: object) -> frozenset[str]:
    if not isinstance(value, str):
        raise ClaimsError("scope is not a string")
    scopes = value.split(" ") if value else []
    if not all(_SCOPE.fullmatch(scope) for scope in scopes):
        raise ClaimsError("scope is not a list of scopes")
    return frozenset(scopes)


def _strings(value: object, name: str) -> Iterable[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) and is_name(item) for item in value):
        raise ClaimsError(f"{name} is not a list of names")
    return value
