"""Etags of resources (AIP-154): another one for each state, the same rule for every resource."""

import base64
import hashlib

from mesh.errors import Aborted, Reason


def etag_of(name: str, version: int) -> str:
    """The etag of a state.

    Args:
        name: The resource name.
        version: Counts the states of the resource.
    """
    return base64.urlsafe_b64encode(hashlib.sha256(f"{name} {version}".encode()).digest()[:12]).decode()


def require_etag(current: str, given: str) -> None:
    """Makes sure that a change is about the state that was read. An empty etag is about any.

    Raises:
        Aborted: ETAG_MISMATCH.
    """
    if given and given != current:
        raise Aborted(Reason.ETAG_MISMATCH, "it was changed since it was read: read it again, then try again")
