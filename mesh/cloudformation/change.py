"""What a change set would do to a stack."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mesh.cloudformation.template import RETAINING


class Action(StrEnum):
    """What becomes of a resource."""

    ADD = "make"
    MODIFY = "change"
    MAYBE_REPLACE = "change, perhaps replace"
    REPLACE = "replace"
    REMOVE = "delete"
    KEEP = "leave"
    IMPORT = "adopt"


@dataclass(frozen=True, slots=True)
class Change:
    """One resource that is changed."""

    action: Action
    logical_id: str
    resource_type: str
    properties: tuple[str, ...] = ()
    """What of it changes, where it is changed or replaced."""

    @property
    def is_dangerous(self) -> bool:
        """Whether what there is now may be lost."""
        return self.action in {Action.REPLACE, Action.MAYBE_REPLACE, Action.REMOVE}

    def __str__(self) -> str:
        """`replace Database (AWS::RDS::DBInstance): StorageEncrypted`."""
        of = f": {', '.join(self.properties)}" if self.properties else ""
        return f"{self.action} {self.logical_id} ({self.resource_type}){of}"


def from_aws(found: Mapping[str, Any]) -> Change:
    """A change as DescribeChangeSet tells it."""
    change = found["ResourceChange"]
    properties = sorted(
        {
            detail["Target"]["Name"]
            for detail in change.get("Details", ())
            if detail.get("Target", {}).get("Attribute") == "Properties" and detail["Target"].get("Name")
        }
    )
    replacement = change.get("Replacement", "False")
    action = {
        "Add": Action.ADD,
        "Remove": Action.KEEP if change.get("PolicyAction") == "Retain" else Action.REMOVE,
        "Import": Action.IMPORT,
    }.get(change["Action"])
    if action is None:
        action = {"True": Action.REPLACE, "Conditional": Action.MAYBE_REPLACE}.get(replacement, Action.MODIFY)
    return Change(action, change["LogicalResourceId"], change["ResourceType"], tuple(properties))


def of_deletion(resources: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    """What deleting a stack does to its resources."""
    return [
        Change(
            Action.KEEP if resource.get("DeletionPolicy") in RETAINING else Action.REMOVE, logical_id, resource["Type"]
        )
        for logical_id, resource in resources.items()
    ]
