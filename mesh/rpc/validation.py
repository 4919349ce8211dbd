"""The stage that holds a request against its proto.

First how much a field may hold and what is text (`mesh.rpc.fields`), then the rules of protovalidate.
"""

from itertools import islice
from typing import Any

from google.protobuf.message import Message
from protovalidate import Validator

from mesh.contract import Rpc
from mesh.errors import FieldViolation, InvalidArgument, Reason
from mesh.resources import field_mask
from mesh.rpc.call import Call, Handler
from mesh.rpc.errors import VIOLATIONS
from mesh.rpc.fields import violations


class Validation:
    """Refuses a request that breaks a rule of the contract, with the first few fields at fault named."""

    def __init__(self) -> None:
        self._validator = Validator()

    def __call__(self, rpc: Rpc, proceed: Handler) -> Handler:
        """The stage.

        Raises:
            InvalidArgument: FIELD_INVALID, with the fields and what each must be. Values are not repeated.
        """

        async def validate(call: Call) -> Any:
            self._hold(call.request)
            return await proceed(call)

        return validate

    def _hold(self, request: Message) -> None:
        found = list(islice(violations(request), VIOLATIONS))
        if not found and not self._validator.collect_violations(request):
            if (wrong := field_mask.resolve(request)) is None:
                return
            found = [wrong]
        # Rules take time in the number of items: they are asked only when the look at all fields came to its end.
        if len(found) < VIOLATIONS:
            named = {item.field for item in found}
            found += [item for item in self._broken_rules(request) if item.field not in named]
        if found:
            first = tuple(dict.fromkeys(found))[:VIOLATIONS]
            summary = "; ".join(f"{item.field}: {item.description}" for item in first[:3])
            raise InvalidArgument(Reason.FIELD_INVALID, summary, violations=first)

    def _broken_rules(self, request: Message) -> list[FieldViolation]:
        broken = (item.proto for item in self._validator.collect_violations(request))
        return [FieldViolation(_path(item), item.message or item.rule_id) for item in broken]


def _path(violation: object) -> str:
    elements = violation.field.elements if violation.field else ()  # type: ignore[attr-defined]
    return ".".join(element.field_name for element in elements) or "request"
