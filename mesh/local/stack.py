"""A CloudFormation stack of the local account, made as it would be in AWS."""

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesh.operator.errors import OperatorError

TEMPLATE_TAG = "authmesh:template"
"""Tag of the stack with the hash of the template it was made from."""
TIMEOUT = 120
"""Seconds that CloudFormation may take."""
POLL = 0.02


async def ensure_stack(cloudformation: Any, name: str, file: Path) -> tuple[Mapping[str, str], bool]:
    """Makes a stack from its template, or changes it where the template changed.

    Args:
        cloudformation: A client of the API.
        name: Of the stack.
        file: The template.

    Returns:
        Its outputs, and whether anything was made or changed.

    Raises:
        OperatorError: CloudFormation refuses.
    """
    template = file.read_text()
    tag = {"Key": TEMPLATE_TAG, "Value": hashlib.sha256(template.encode()).hexdigest()[:16]}
    found = await _describe(cloudformation, name)
    if found and found["StackStatus"] in {"ROLLBACK_COMPLETE", "CREATE_FAILED", "DELETE_FAILED"}:
        # Never came to be. Such a stack can only be deleted.
        await cloudformation.delete_stack(StackName=name)
        await _settled(cloudformation, name, gone=True)
        found = None
    exists = found is not None and found["StackStatus"] != "REVIEW_IN_PROGRESS"
    if found and exists and tag in found.get("Tags", []):
        return _outputs(found), False
    change_set = (
        await cloudformation.create_change_set(
            StackName=name,
            ChangeSetName=f"authmesh-{secrets.token_hex(6)}",
            ChangeSetType="UPDATE" if exists else "CREATE",
            TemplateBody=template,
            Tags=[tag],
            # The policies that processes need in AWS are part of it.
            Capabilities=["CAPABILITY_IAM"],
            # A queue that outlived its stack, as the template wants it, is adopted.
            ImportExistingResources=True,
        )
    )["Id"]
    if await _has_changes(cloudformation, change_set, file):
        await cloudformation.execute_change_set(ChangeSetName=change_set)
    done = await _settled(cloudformation, name)
    if done["StackStatus"] not in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}:
        raise OperatorError(
            f"CloudFormation could not make {name}: {done['StackStatus']}: "
            f"{done.get('StackStatusReason') or 'no reason given'}"
        )
    return _outputs(done), True


async def _has_changes(cloudformation: Any, change_set: str, file: Path) -> bool:
    async with asyncio.timeout(TIMEOUT):
        while True:
            found = await cloudformation.describe_change_set(ChangeSetName=change_set)
            if found["Status"] not in {"CREATE_PENDING", "CREATE_IN_PROGRESS"}:
                break
            await asyncio.sleep(POLL)
    if found["Status"] == "CREATE_COMPLETE":
        return True
    reason = found.get("StatusReason", "")
    if "didn't contain changes" in reason or "No updates" in reason:
        return False
    raise OperatorError(f"CloudFormation refuses {file.name}: {reason}")


async def _settled(cloudformation: Any, name: str, *, gone: bool = False) -> Any:
    async with asyncio.timeout(TIMEOUT):
        pause = POLL
        while True:
            found = await _describe(cloudformation, name)
            if (gone and found is None) or (not gone and found and not found["StackStatus"].endswith("IN_PROGRESS")):
                return found
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 2)


async def _describe(cloudformation: Any, name: str) -> Any:
    from botocore.exceptions import ClientError

    try:
        stacks = (await cloudformation.describe_stacks(StackName=name))["Stacks"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return stacks[0] if stacks and stacks[0]["StackStatus"] != "DELETE_COMPLETE" else None


def _outputs(stack: Any) -> Mapping[str, str]:
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
