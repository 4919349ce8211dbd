"""Which fields an update changes (AIP-134, AIP-161, AIP-203). One rule for every RPC with an `update_mask`.

- Without a mask: the fields that are set and can be changed.
- `*`: every field that can be changed.
- `name`, `etag` and output-only fields say nothing in a mask. Envoy puts every member of a PATCH body into it.
- Any other path is refused, also one into a field.

The validation stage resolves the mask of every request before its handler: `update_mask.paths` are then exactly the
fields to change.
"""

from dataclasses import dataclass
from functools import cache

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldOptions
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from mesh.errors import FieldViolation

MASK = "update_mask"
_EVERYTHING = "*"
_STATE = "etag"


@dataclass(frozen=True, slots=True)
class Update:
    """An update request's type."""

    resource: str
    """The field that holds the resource with its new values."""
    changeable: tuple[str, ...]
    """In the proto's order."""
    said_in_vain: frozenset[str]


@cache
def update_of(request: Descriptor) -> Update | None:
    """What a request type updates; None for one without an update mask."""
    mask = request.fields_by_name.get(MASK)
    if mask is None or mask.message_type is None or mask.message_type.full_name != FieldMask.DESCRIPTOR.full_name:
        return None
    (resource,) = (field for field in request.fields if field.message_type is not None and field.name != MASK)
    assert resource.message_type is not None
    fields = resource.message_type.fields
    fixed = {field.name for field in fields if field.name == _STATE or _is_fixed(field)}
    changeable = tuple(field.name for field in fields if field.name not in fixed)
    return Update(resource.name, changeable, frozenset(fixed))


def resolve(request: Message) -> FieldViolation | None:
    """Puts the fields that an update changes into its mask. Leaves requests of other kinds alone.

    Returns:
        What is wrong with the mask, if anything is.
    """
    update = update_of(request.DESCRIPTOR)
    if update is None:
        return None
    paths = getattr(request, MASK).paths
    if wrong := sorted(set(paths) - set(update.changeable) - update.said_in_vain - {_EVERYTHING}):
        return FieldViolation(MASK, f"{wrong[0][:100]!r} can't be changed: {', '.join(update.changeable)} can")
    if _EVERYTHING in paths:
        chosen = set(update.changeable)
    elif paths:
        chosen = set(paths)
    else:
        chosen = {field.name for field, _ in getattr(request, update.resource).ListFields()}
    paths[:] = [name for name in update.changeable if name in chosen]
    return None


def _is_fixed(field: FieldDescriptor) -> bool:
    # Parsed anew: a descriptor of another pool than the generated code's has options without our extensions.
    options = FieldOptions.FromString(field.GetOptions().SerializeToString())
    behaviours = options.Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.OUTPUT_ONLY in behaviours or field_behavior_pb2.IDENTIFIER in behaviours
