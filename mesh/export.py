"""What a service holds of a person, as items of the JSON document that the person can ask for.

Where the API has a message for it, the item is that message in JSON: the person finds it as an app shows it.
"""

import json
from collections.abc import Mapping
from datetime import datetime

from authmesh.export.v1.export_pb2 import ExportedItem
from google.protobuf import json_format
from google.protobuf.message import Message

EXPORT_SECONDS = 600.0
"""Deadline of an export, from the first item to the last."""


def exported(collection: str, content: Message | Mapping[str, object]) -> ExportedItem:
    """An item.

    Args:
        collection: What it is one of, in camel case: `sessions`.
        content: A message of the API, or the members of an object. Times are written as RFC 3339 has them.
    """
    document = json_format.MessageToDict(content) if isinstance(content, Message) else content
    return ExportedItem(collection=collection, json=json.dumps(document, ensure_ascii=False, default=_text))


def _text(value: object) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
