"""Ids that make a request idempotent (AIP-155): the same id with the same body changes nothing."""

from uuid import UUID

from mesh.errors import FieldViolation, InvalidArgument, Reason


def parse_request_id(text: str) -> UUID | None:
    """The id of a request; None when it has none. The contract's rule makes sure that it is a UUID."""
    return UUID(text) if text else None


def request_id_reused(what: str) -> InvalidArgument:
    """The refusal of an id that came before with another body: REQUEST_ID_REUSED.

    Args:
        what: What it was used for: `resource`.
    """
    violation = FieldViolation("request_id", f"was used for another {what}: a new attempt takes a new id")
    return InvalidArgument(Reason.REQUEST_ID_REUSED, f"request_id {violation.description}", violations=(violation,))
