"""The fields of a request: how much each may hold, and which are text that people read.

Read from the proto, once for each message type. Counts and sizes are looked at before anything that takes time in them:
a rule over 300,000 items takes seconds to break. `tests/unit/protos/test_fields.py` holds every request of the contract
to it that each of its fields has a bound.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from authmesh.options.v1 import text_pb2
from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldOptions
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from mesh.errors import FieldViolation
from mesh.resources.text import TextError, clean

MASK_PATHS = 50
MASK_PATH_CHARACTERS = 100
"""Of a `google.protobuf.FieldMask`, whose proto is not ours to write rules in."""

_LONGEST_DECOMPOSITION = 4
"""The most code points that normal form C makes one of. Text is measured in that form, and not read beyond this."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field whose content has no size of its own: a string, bytes, a message, or several of anything."""

    name: str
    repeated: bool
    message: Descriptor | None
    """The type of the messages that it holds."""
    items: int | None
    """The most of them, where it is repeated."""
    characters: int | None
    """The most Unicode code points of the string, or of each. Of bytes: the most bytes."""
    octets: int | None
    """The most bytes of the string in UTF-8, or of each."""
    short: int
    """ASCII of at most this length is within both."""
    is_string: bool
    is_text: bool
    """Whether it falls under the rule for text (`mesh.resources.text`)."""


@cache
def fields_of(message: Descriptor) -> tuple[Field, ...]:
    """The fields of a message type that need a look, in the proto's order."""
    if message.full_name == FieldMask.DESCRIPTOR.full_name:
        return (
            Field(
                name="paths",
                repeated=True,
                message=None,
                items=MASK_PATHS,
                characters=MASK_PATH_CHARACTERS,
                octets=None,
                short=MASK_PATH_CHARACTERS,
                is_string=True,
                is_text=True,
            ),
        )
    return tuple(_field(field) for field in message.fields if field.is_repeated or field.type in _UNSIZED)


def violations(message: Message, path: str = "") -> Iterator[FieldViolation]:
    """What is too many, too long or no text in a message and the messages in it. It goes as far as its caller asks.

    The message is changed: text that is right is put into its normal form, and of too many items those beyond are
    dropped, so that nothing after this takes time in them.
    """
    for field in fields_of(message.DESCRIPTOR):
        value = getattr(message, field.name)
        if not value:
            continue
        if field.items is not None and len(value) > field.items:
            del value[field.items :]
            yield FieldViolation(path + field.name, f"must have at most {field.items} items")
        elif field.message and field.repeated:
            for item in value:
                yield from violations(item, f"{path}{field.name}.")
        elif field.message:
            if message.HasField(field.name):
                yield from violations(value, f"{path}{field.name}.")
        elif field.repeated:
            for index, item in enumerate(value):
                try:
                    if (kept := _kept(field, item)) != item:
                        value[index] = kept
                except TextError as error:
                    yield FieldViolation(path + field.name, str(error))
        else:
            try:
                if (kept := _kept(field, value)) != value:
                    setattr(message, field.name, kept)
            except TextError as error:
                yield FieldViolation(path + field.name, str(error))


_UNSIZED = (
    FieldDescriptor.TYPE_STRING,
    FieldDescriptor.TYPE_BYTES,
    FieldDescriptor.TYPE_MESSAGE,
    FieldDescriptor.TYPE_GROUP,
)


def _field(field: FieldDescriptor) -> Field:
    # Parsed anew: a descriptor of another pool than the generated code's has options without our extensions.
    options = FieldOptions.FromString(field.GetOptions().SerializeToString())
    rules = options.Extensions[validate_pb2.field]
    each = rules.repeated.items if field.is_repeated else rules
    is_string = field.type == FieldDescriptor.TYPE_STRING
    string = each.string
    # What is one of these (`well_known`: `email`, `uuid`, ...) is not free text.
    has_format = bool(string.HasField("pattern") or string.WhichOneof("well_known") or getattr(string, "in"))
    characters, octets = _limit(each.string if is_string else each.bytes, "max_len"), _limit(string, "max_bytes")
    return Field(
        name=field.name,
        repeated=field.is_repeated,
        message=field.message_type,
        items=_limit(rules.repeated, "max_items"),
        characters=characters,
        octets=octets,
        short=min((limit for limit in (characters, octets) if limit is not None), default=sys.maxsize),
        is_string=is_string,
        is_text=is_string and not has_format and not options.Extensions[text_pb2.opaque],
    )


def _limit(rules: Message, name: str) -> int | None:
    return getattr(rules, name) if rules.HasField(name) else None


def _kept(field: Field, value: str) -> str:
    """The value as the handler gets it.

    Raises:
        TextError: it is too long, or no text.
    """
    if field.is_string and len(value) <= field.short and value.isascii() and value.isprintable():
        return value.strip() if field.is_text else value
    if not field.is_string:
        _measure(field, value, 1)
        return value
    _measure(field, value, _LONGEST_DECOMPOSITION if field.is_text else 1)
    if field.is_text:
        value = clean(value)
        _measure(field, value, 1)
    elif "\0" in value:
        raise TextError("must not contain the character U+0000")
    if field.octets is not None and not value.isascii() and len(value.encode()) > field.octets:
        raise TextError(f"must have at most {field.octets} bytes")
    return value


def _measure(field: Field, value: str, slack: int) -> None:
    if field.characters is not None and len(value) > slack * field.characters:
        raise TextError(f"must have at most {field.characters} {'characters' if field.is_string else 'bytes'}")
    if field.octets is not None and len(value) > slack * field.octets:
        raise TextError(f"must have at most {field.octets} bytes")
