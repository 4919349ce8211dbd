"""What of a template an AWS emulator can make. In AWS none of this runs.

Emulators lack types of resources. What they lack is left out, with what refers to it, and named; the rest is made as it
stands.
"""

import json
from typing import Any

from mesh.cloudformation.template import Template, imported, names

_ATTRIBUTES = frozenset(("MasterUserSecret.SecretArn", "ProviderURL"))
"""Attributes of resources that ministack 1.5 does not have. Text stands in for them."""


def fitted(template: Template, unknown: frozenset[str], exports: frozenset[str]) -> tuple[Template, list[str]]:
    """The template without some resource types, and without what refers to their resources.

    Args:
        template: As it goes to AWS.
        unknown: Types that the emulator does not have.
        exports: Names that can be imported. What imports others is left out, too.

    Returns:
        The template, and the logical ids that were left out.
    """
    body = _stood_in(json.loads(json.dumps(template.body)))
    # A macro of AWS, which would have kept CloudFormation from looking at the types.
    body.pop("Transform", None)
    resources: dict[str, Any] = body["Resources"]
    gone: set[str] = set()
    while more := {
        name
        for name, resource in resources.items()
        if resource["Type"] in unknown
        or names(resource) & gone
        or any(one not in exports for one in imported(resource))
    }:
        gone |= more
        for name in more:
            del resources[name]
    for resource in resources.values():
        needed = resource.pop("DependsOn", [])
        if left := [one for one in ([needed] if isinstance(needed, str) else needed) if one not in gone]:
            resource["DependsOn"] = left
    body["Outputs"] = {
        name: one
        for name, one in body.get("Outputs", {}).items()
        if not names(one) & gone and all(export in exports for export in imported(one))
    }
    return Template(body), sorted(gone)


def _stood_in(found: Any) -> Any:
    if isinstance(found, dict):
        attribute = found.get("Fn::GetAtt")
        if isinstance(attribute, list) and attribute[1] in _ATTRIBUTES:
            return f"no-{attribute[1]}-here"
        return {name: _stood_in(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_stood_in(one) for one in found]
    return found
