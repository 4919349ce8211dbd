"""The stage that holds a request against the field rules of its proto (protovalidate)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from protovalidate import Validator

from mesh.errors import FieldViolation, InvalidArgument, Reason
from mesh.rpc.call import Call


class Validation:
    """Refuses a request that breaks a rule of the contract, with every field at fault named."""

    def __init__(self) -> None:
        self._validator = Validator()

    @asynccontextmanager
    async def __call__(self, call: Call) -> AsyncIterator[None]:
        """The stage.

        Raises:
            InvalidArgument: FIELD_INVALID, with the fields and what each must be. Values are not repeated.
        """
        if found := self._validator.collect_violations(call.request):
            violations = tuple(FieldViolation(_path(item.proto), item.proto.message or item.proto.rule_id) for item in found)
            summary = "; ".join(f"{item.field}: {item.description}" for item in violations[:3])
            raise InvalidArgument(Reason.FIELD_INVALID, summary, violations=violations)
        yield


def _path(violation: object) -> str:
    elements = violation.field.elements if violation.field else ()  # type: ignore[attr-defined]
    return ".".join(element.field_name for element in elements) or "request"
