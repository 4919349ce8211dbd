"""Schemas of CRDs, with unknown fields refused: the API server prunes them without a word."""

from typing import Any

from jsonschema import Draft202012Validator


def closed(schema: Any) -> Any:
    """A schema that takes no field but those that it names."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items() if key != "x-kubernetes-preserve-unknown-fields"}
    if "properties" in found and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


def validator(schema: Any) -> Draft202012Validator:
    """Of resources of a kind, by the `openAPIV3Schema` of its CRD."""
    strict = closed(schema)
    # Kubernetes' own part.
    strict["properties"] |= {"metadata": {"type": "object"}, "apiVersion": {}, "kind": {}}
    return Draft202012Validator(strict)
