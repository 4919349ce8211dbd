"""Personal data in audit events: encrypted before the event is chained, so that the chain outlives the data.

Fields marked `(authmesh.options.v1.personal)` leave a service only as `AuditEvent.sealed`. The key belongs to the
persons that the event names; each service keeps its own (`mesh.audit.subject_keys`). Without the key nothing is left of
the fields but ciphertext, and the hash chain, which runs over the ciphertext, still verifies: Object Lock and the right
to erasure both hold.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC

from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from authmesh.options.v1 import audit_pb2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PERSONAL = tuple(
    field.name for field in AuditEvent.DESCRIPTOR.fields if field.GetOptions().Extensions[audit_pb2.personal]
)
"""Names of the fields that identify a person, as the contract marks them."""
ERASED = "erased"
"""What a reader is shown in the place of data whose key is gone."""
KEY_BYTES = 32
_NONCE_BYTES = 12
_PURPOSE = b"authmesh audit personal v1"


class SealError(ValueError):
    """Sealed data does not open with the keys at hand: it was changed, or belongs to another event."""


def key_names(event: AuditEvent) -> tuple[str, ...]:
    """Whose keys seal the event: those of the persons it names, its subject and its actor (`users/…`).

    With two persons it takes both keys to open it. An administrator's address in an event about someone else thus goes
    with whichever of the two is erased first: rather too much is forgotten than too little. An event that names no
    person is sealed with its source's key of the day (`days/YYYY-MM-DD`), which is thrown away when the day is
    `subject_keys.DAYS_KEPT` days old.
    """
    persons = tuple(dict.fromkeys(name for name in (event.subject, event.actor) if name.startswith("users/")))
    return persons or (f"days/{event.event_time.ToDatetime(UTC).date().isoformat()}",)


def seal(event: AuditEvent, keys: Sequence[bytes]) -> None:
    """Moves the personal fields of a numbered event into `sealed`. An event without any stays as it is.

    Args:
        event: Changed in place. Its source, number and id are bound to the ciphertext.
        keys: One for each of `key_names(event)`.
    """
    personal = AuditEvent(**{name: value for name in PERSONAL if (value := getattr(event, name))})
    if not personal.ByteSize():
        return
    nonce = os.urandom(_NONCE_BYTES)
    event.sealed = nonce + AESGCM(_derive(keys)).encrypt(
        nonce, personal.SerializeToString(deterministic=True), _binding(event)
    )
    for name in PERSONAL:
        setattr(event, name, "")


def reveal(event: AuditEvent, keys: Mapping[str, bytes | None]) -> AuditEvent:
    """A copy for a reader: personal fields opened, or `ERASED` where a key is not there any more.

    Args:
        event: As the trail has it.
        keys: What there is of the keys that `key_names(event)` asks for.

    Raises:
        SealError: the keys are there and do not fit.
    """
    shown = AuditEvent()
    shown.CopyFrom(event)
    if not event.sealed:
        return shown
    shown.ClearField("sealed")
    held = [key for name in key_names(event) if (key := keys.get(name))]
    if len(held) < len(key_names(event)):
        for name in PERSONAL:
            setattr(shown, name, ERASED)
        return shown
    nonce, ciphertext = event.sealed[:_NONCE_BYTES], event.sealed[_NONCE_BYTES:]
    try:
        shown.MergeFromString(AESGCM(_derive(held)).decrypt(nonce, ciphertext, _binding(event)))
    except (InvalidTag, ValueError) as error:
        raise SealError(
            f"event {event.source}/{event.sequence}: its personal data was changed or belongs to another event"
        ) from error
    return shown


def _derive(keys: Sequence[bytes]) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=_PURPOSE).derive(b"".join(keys))


def _binding(event: AuditEvent) -> bytes:
    """No event's data can be shown as another's."""
    return f"{event.source}/{event.sequence}/{event.event_id}".encode()
