"""The relying party of WebAuthn (W3C, level 3, section 7): options for browsers and apps, and their answers, verified.

fido2 does it. What it leaves to its callers is here: exact origins, no ceremony in a foreign frame, the user handle,
the size of credential ids, and backup flags that don't change.
"""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from fido2.server import Fido2Server, to_descriptor
from fido2.webauthn import (
    AttestationConveyancePreference,
    AttestedCredentialData,
    AuthenticationResponse,
    AuthenticatorData,
    CollectedClientData,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialUserEntity,
    RegistrationResponse,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

CREDENTIAL_ID_BYTES = 1023
"""The longest that the standard allows (section 5.8.3)."""

# It writes the ids of credentials at "info".
logging.getLogger("fido2").setLevel(logging.WARNING)


class ResponseInvalidError(ValueError):
    """What the client sent is not a response of this ceremony; the message says why."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A public key credential, as it was registered."""

    data: AttestedCredentialData
    sign_count: int
    backup_eligible: bool
    """Whether it may be synced to other devices: it can't be bound to one."""
    backed_up: bool
    transports: Sequence[str]


@dataclass(frozen=True, slots=True)
class Assertion:
    """What someone presents to sign in, read and not verified."""

    credential_id: bytes
    user_handle: bytes
    response: AuthenticationResponse


class RelyingParty:
    """We, as authenticators know us."""

    def __init__(self, rp_id: str, name: str, origins: Collection[str]) -> None:
        """Initializes the instance.

        Args:
            rp_id: The domain that passkeys are for.
            name: As authenticators show it.
            origins: The exact origins of pages and apps that may use them.
        """
        self._server = Fido2Server(
            PublicKeyCredentialRpEntity(id=rp_id, name=name),
            attestation=AttestationConveyancePreference.NONE,
            verify_origin=frozenset(origins).__contains__,
        )

    def creation_options(
        self, challenge: bytes, user_handle: bytes, email: str, known: Sequence[AttestedCredentialData]
    ) -> str:
        """`PublicKeyCredentialCreationOptionsJSON`. An authenticator that has one of `known` makes no other."""
        options, _ = self._server.register_begin(
            PublicKeyCredentialUserEntity(id=user_handle, name=email, display_name=email),
            credentials=[to_descriptor(credential) for credential in known],
            resident_key_requirement=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
            challenge=challenge,
        )
        return json.dumps(dict(options.public_key))

    def request_options(self, challenge: bytes, allowed: Sequence[AttestedCredentialData] = ()) -> str:
        """`PublicKeyCredentialRequestOptionsJSON`.

        Without `allowed` it allows any passkey: at a sign-in nothing must tell who has an account.
        """
        options, _ = self._server.authenticate_begin(
            [to_descriptor(credential) for credential in allowed] or None,
            user_verification=UserVerificationRequirement.REQUIRED,
            challenge=challenge,
        )
        return json.dumps(dict(options.public_key))

    def register(self, challenge: bytes, response_json: str) -> Credential:
        """The credential of a `RegistrationResponseJSON`.

        Raises:
            ResponseInvalidError: it is malformed, or not for this challenge, party and origin.
        """
        content = _object(response_json)
        try:
            response = RegistrationResponse.from_dict(content)
            _refuse_foreign_frame(response.response.client_data)
            data = self._server.register_complete(self._state(challenge), response)
            credential = data.credential_data
            if credential is None or len(credential.credential_id) > CREDENTIAL_ID_BYTES:
                raise ValueError("no credential in it")
            if credential.credential_id != response.raw_id:
                raise ValueError("the credential has another id")
            if credential.public_key.ALGORITHM not in {item.alg for item in self._server.allowed_algorithms}:
                raise ValueError("the key is of an algorithm that was not offered")
            transports = content["response"].get("transports") or ()
            known = [item for item in transports if isinstance(item, str) and item.isascii() and len(item) <= 20][:8]
        except Exception as error:  # noqa: BLE001 - the library's parsers raise what they come across
            raise ResponseInvalidError(_reason(error)) from None
        return Credential(credential, data.counter, data.is_backup_eligible(), data.is_backed_up(), known)

    def read(self, response_json: str) -> Assertion:
        """What an `AuthenticationResponseJSON` says.

        Raises:
            ResponseInvalidError: it is malformed.
        """
        content = _object(response_json)
        try:
            response = AuthenticationResponse.from_dict(content)
            if not response.response.user_handle or len(response.raw_id) > CREDENTIAL_ID_BYTES:
                raise ValueError("no user handle in it")
        except Exception as error:  # noqa: BLE001 - as above
            raise ResponseInvalidError(_reason(error)) from None
        return Assertion(response.raw_id, response.response.user_handle, response)

    def verify(self, challenge: bytes, assertion: Assertion, credential: Credential) -> AuthenticatorData:
        """Makes sure that the holder of a credential has signed this challenge. Returns what the authenticator says.

        Raises:
            ResponseInvalidError: they haven't, or not here.
        """
        response = assertion.response
        try:
            _refuse_foreign_frame(response.response.client_data)
            self._server.authenticate_complete(self._state(challenge), [credential.data], response)
            data = response.response.authenticator_data
            if data.is_backup_eligible() is not credential.backup_eligible:
                raise ValueError("the backup eligibility of the credential has changed")
        except Exception as error:  # noqa: BLE001 - as above
            raise ResponseInvalidError(_reason(error)) from None
        return data

    def _state(self, challenge: bytes) -> object:
        """What fido2 keeps of a ceremony: it follows from the challenge."""
        _, state = self._server.authenticate_begin(
            user_verification=UserVerificationRequirement.REQUIRED, challenge=challenge
        )
        return state


def _object(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ResponseInvalidError("is not JSON") from None
    if not isinstance(content, dict) or not isinstance(content.get("response"), dict):
        raise ResponseInvalidError("is not a credential as JSON (PublicKeyCredential.toJSON)")
    return content


def _refuse_foreign_frame(client_data: CollectedClientData) -> None:
    if client_data.cross_origin is not False:
        raise ValueError("the page was in a frame of another origin")


def _reason(error: Exception) -> str:
    # Only what this module and fido2's server say themselves: others repeat what was sent.
    return str(error) if type(error) is ValueError and len(str(error)) < 80 else "can't be read as a credential"
