"""Stacks in an account: how they stand, what a template would change, and the making and deleting of them."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from botocore.exceptions import ClientError

from mesh.cloudformation import change
from mesh.cloudformation.change import Change
from mesh.cloudformation.emulator import fitted
from mesh.cloudformation.errors import AwsError
from mesh.cloudformation.stacks import TAGS, Stack

CAPABILITIES = ("CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")
"""Roles have predictable names, and rotation is a macro of AWS."""
LONGEST_SECONDS = 2 * 3600
"""How long one stack is waited for. EKS and RDS take half an hour each."""
POLL_SECONDS = (0.05, 3.0)
"""Between two looks: the first, and the longest."""
EVENT_PAGES = 20
"""Of a hundred events each: more than the largest stack has in one operation."""
_NEVER_MADE = frozenset(("ROLLBACK_COMPLETE", "CREATE_FAILED", "REVIEW_IN_PROGRESS", "ROLLBACK_FAILED"))
"""Such a stack can only be deleted."""
_GOOD = frozenset(("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"))
_UNKNOWN_TYPES = re.compile(r"Unrecognized resource types: \[([^\]]*)\]")
_FOLLOWS = ("cancelled", "Resource creation Initiated")
"""In reasons of failures that follow from another one."""

Progress = Callable[[int, int, str], None]
"""Told how many of how many resources are done, and which was the last."""


@dataclass(frozen=True, slots=True)
class Found:
    """A stack as it stands in the account."""

    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    changed: str
    """When it was changed last."""
    protected: bool
    """Whether CloudFormation refuses to delete it."""
    reason: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it is there, whole, at rest."""
        return self.status in _GOOD

    @property
    def was_made(self) -> bool:
        """Whether there is something to be changed, or to be deleted with care."""
        return self.status not in _NEVER_MADE


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done to a stack."""

    stack: Stack
    is_new: bool
    changes: Sequence[Change]
    change_set: str | None
    """Its id in AWS. None for a stack that is new: what it imports may not be there yet."""
    left_out: Sequence[str] = ()
    """Logical ids of what the emulator can't make."""


class Deployment:
    """The stacks of one account and region."""

    def __init__(self, cloudformation: Any, *, account: str, region: str, emulated: bool) -> None:
        """Initializes the instance.

        Args:
            cloudformation: aiobotocore's client.
            account: Number of the account.
            region: Name of the region.
            emulated: Whether an emulator answers: what it can't make is left out.
        """
        self._aws = cloudformation
        self._account = account
        self._region = region
        self._emulated = emulated

    async def find(self, stack: Stack) -> Found | None:
        """The stack as it stands, or None."""
        try:
            stacks = (await self._aws.describe_stacks(StackName=stack.name))["Stacks"]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        if not stacks or stacks[0]["StackStatus"] == "DELETE_COMPLETE":
            return None
        (one,) = stacks
        return Found(
            one["StackStatus"],
            {item["ParameterKey"]: item.get("ParameterValue", "") for item in one.get("Parameters", ())},
            {item["OutputKey"]: item["OutputValue"] for item in one.get("Outputs", ())},
            f"{one.get('LastUpdatedTime') or one['CreationTime']:%Y-%m-%d %H:%M}",
            bool(one.get("EnableTerminationProtection")),
            one.get("StackStatusReason", ""),
        )

    async def plan(self, stack: Stack) -> Plan:
        """What the template would change. Makes a change set of a stack that is there, and nothing else.

        Raises:
            AwsError: the stack can't be changed now, or CloudFormation refuses the template.
        """
        found = await self._at_rest(stack)
        if found is None or not found.was_made:
            made = stack.template.made(stack.parameters)
            return Plan(stack, True, [Change(change.Action.ADD, name, one["Type"]) for name, one in made.items()], None)
        return await self._changed(stack, found)

    async def apply(self, plan: Plan, progress: Progress) -> tuple[Found | None, Sequence[str]]:
        """Does it.

        Returns:
            The stack afterwards, and the logical ids of what an emulator can't make: where that is all of it, there is
            no stack.

        Raises:
            AwsError: it could not be done; says why, and how the stack stands now.
        """
        stack = plan.stack
        if plan.is_new:
            # One that never came to be stands in the way of its name.
            if await self.find(stack) is not None:
                await self._aws.delete_stack(StackName=stack.name)
                await self._settled(stack, lambda *_: None, 0, gone=True)
            plan = await self._changed(stack, None)
        if plan.change_set is not None:
            last = await self._last_event(stack)
            await self._aws.execute_change_set(ChangeSetName=plan.change_set)
            found = await self._settled(stack, progress, len(plan.changes), last=last)
            if found is None or not found.is_good:
                await self._fail(stack, found, last)
        found = await self.find(stack)
        if found and not self._emulated and not found.protected:
            await self._aws.update_termination_protection(StackName=stack.name, EnableTerminationProtection=True)
        return found, plan.left_out

    async def forget(self, plan: Plan) -> None:
        """Drops the change set of a plan that is not carried out."""
        if plan.change_set is not None:
            await self._aws.delete_change_set(ChangeSetName=plan.change_set)

    async def destroy(self, stack: Stack, progress: Progress) -> None:
        """Deletes a stack; what its template retains stays in the account.

        Raises:
            AwsError: something could not be deleted; says what.
        """
        found = await self._at_rest(stack)
        if found is None:
            return
        if found.protected:
            await self._aws.update_termination_protection(StackName=stack.name, EnableTerminationProtection=False)
        last = await self._last_event(stack)
        await self._aws.delete_stack(StackName=stack.name)
        left = await self._settled(stack, progress, len(stack.template.made(found.parameters)), last=last, gone=True)
        if left is not None:
            await self._fail(stack, left, last)

    async def _at_rest(self, stack: Stack) -> Found | None:
        found = await self.find(stack)
        if found and found.status.endswith("_IN_PROGRESS") and found.status != "REVIEW_IN_PROGRESS":
            raise AwsError(
                f"{stack.name} is being changed ({found.status}): wait until `authmesh aws status` says it is done"
            )
        if found and found.status == "UPDATE_ROLLBACK_FAILED":
            raise AwsError(
                f"{stack.name} could not be rolled back: mend what its events name, then "
                f"`aws cloudformation continue-update-rollback --stack-name {stack.name}`"
            )
        return found

    async def _changed(self, stack: Stack, found: Found | None) -> Plan:
        """A change set, and what is in it."""
        whole = stack.template.named(self._account, self._region)
        template, left_out = whole, list[str]()
        unknown = frozenset[str]()
        exports = await self._exports() if self._emulated else frozenset[str]()
        while True:
            if self._emulated:
                template, left_out = fitted(whole, unknown, exports)
                if not template.resources:
                    return Plan(stack, found is None, (), None, left_out)
            kept = {} if found is None else found.parameters
            parameters: list[dict[str, Any]] = [
                {"ParameterKey": name, "ParameterValue": stack.parameters[name]}
                if name in stack.parameters
                else {"ParameterKey": name, "UsePreviousValue": True}
                for name in template.parameters
                if name in stack.parameters or name in kept
            ]
            try:
                made = await self._aws.create_change_set(
                    StackName=stack.name,
                    ChangeSetName=f"authmesh-{secrets.token_hex(6)}",
                    ChangeSetType="CREATE" if found is None else "UPDATE",
                    TemplateBody=template.text(),
                    Parameters=parameters,
                    Capabilities=list(CAPABILITIES),
                    Tags=[{"Key": key, "Value": value} for key, value in TAGS.items()],
                    # What outlived a deleted stack, as the templates want it, is adopted.
                    ImportExistingResources=True,
                    # Emulators' validation takes a bucket that is adopted for a conflict of names.
                    DisableValidation=self._emulated,
                )
                break
            except ClientError as error:
                missing = _UNKNOWN_TYPES.search(str(error))
                if missing is None:
                    raise
                more = frozenset(name.strip() for name in missing[1].split(","))
                if not self._emulated or more <= unknown:
                    raise AwsError(
                        f"{stack.name}: this region has no {', '.join(sorted(more))}: choose another region (--region)"
                    ) from None
                unknown |= more
        changes = await self._read(stack, made["Id"])
        return Plan(stack, found is None, changes or (), made["Id"] if changes is not None else None, left_out)

    async def _read(self, stack: Stack, change_set: str) -> list[Change] | None:
        """The changes of a change set, once it is made. None for none at all."""
        found: Any = {}

        async def is_made() -> bool:
            nonlocal found
            found = await self._aws.describe_change_set(ChangeSetName=change_set)
            return found["Status"] not in {"CREATE_PENDING", "CREATE_IN_PROGRESS"}

        await _until(is_made, f"{stack.name}: its change set")
        if found["Status"] != "CREATE_COMPLETE":
            reason = found.get("StatusReason", "")
            await self._aws.delete_change_set(ChangeSetName=change_set)
            if "didn't contain changes" in reason or "No updates are to be performed" in reason:
                return None
            raise AwsError(f"CloudFormation refuses the template of {stack.name}: {reason}")
        changes = [change.from_aws(item) for item in found["Changes"]]
        while token := found.get("NextToken"):
            found = await self._aws.describe_change_set(ChangeSetName=change_set, NextToken=token)
            changes += [change.from_aws(item) for item in found["Changes"]]
        return changes

    async def _settled(
        self, stack: Stack, progress: Progress, total: int, *, last: str | None = None, gone: bool = False
    ) -> Found | None:
        found: Found | None = None

        async def is_settled() -> bool:
            nonlocal found
            found = await self.find(stack)
            if found is not None:
                events = await self._events(stack, last)
                done = {
                    item["LogicalResourceId"]
                    for item in events
                    if item["ResourceStatus"].endswith("_COMPLETE") and item["LogicalResourceId"] != stack.name
                }
                progress(min(len(done), total), total, _event_line(events[0]) if events else "")
            return found is None or not found.status.endswith("_IN_PROGRESS")

        await _until(is_settled, stack.name)
        return found if not gone or found is None or found.status != "DELETE_COMPLETE" else None

    async def _last_event(self, stack: Stack) -> str | None:
        events = await self._events(stack, None, pages=1)
        return events[0]["EventId"] if events else None

    async def _events(self, stack: Stack, last: str | None, *, pages: int = EVENT_PAGES) -> list[Any]:
        """The events after `last`, the newest first."""
        found: list[Any] = []
        try:
            async for page in self._aws.get_paginator("describe_stack_events").paginate(StackName=stack.name):
                for item in page["StackEvents"]:
                    if item["EventId"] == last:
                        return found
                    found.append(item)
                pages -= 1
                if not pages:
                    break
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
        return found

    async def _fail(self, stack: Stack, found: Found | None, last: str | None) -> NoReturn:
        events = await self._events(stack, last)
        failures = [
            item
            for item in reversed(events)
            if item["ResourceStatus"].endswith("_FAILED")
            and not any(word in item.get("ResourceStatusReason", "") for word in _FOLLOWS)
        ]
        failures.sort(key=lambda item: item["LogicalResourceId"] == stack.name)
        first = failures[0] if failures else None
        status = found.status if found else "gone"
        if first is None:
            why = (found.reason if found else "") or "no reason is given"
        else:
            what = (
                ""
                if first["LogicalResourceId"] == stack.name
                else f"{first['LogicalResourceId']} ({first['ResourceType']}): "
            )
            why = what + first.get("ResourceStatusReason", "")
        if "DescribeEvents" in why:
            why = await self._invalid(stack) or why
        now = {
            "ROLLBACK_COMPLETE": "what it had made was deleted again; mend this and deploy again",
            "UPDATE_ROLLBACK_COMPLETE": "it is as it was before; mend this and deploy again",
            "DELETE_FAILED": "the rest of it was deleted; mend this and destroy again",
        }.get(status, f"it is {status}")
        raise AwsError(f"{stack.name}: {' '.join(why.split())} - {now}")

    async def _invalid(self, stack: Stack) -> str:
        """What CloudFormation's validation before a deployment has found first: stack events only say that it has."""
        found = (await self._aws.describe_events(StackName=stack.name))["OperationEvents"]
        return next(
            (
                f"{item.get('LogicalResourceId')} ({item.get('ResourceType')}): {item.get('ValidationStatusReason')}"
                for item in found
                if item["EventType"] == "VALIDATION_ERROR"
            ),
            "",
        )

    async def _exports(self) -> frozenset[str]:
        names: set[str] = set()
        async for page in self._aws.get_paginator("list_exports").paginate():
            names |= {item["Name"] for item in page["Exports"]}
        return frozenset(names)


def _event_line(event: Mapping[str, Any]) -> str:
    return f"{event['LogicalResourceId']} {event['ResourceStatus'].lower().replace('_', ' ')}"


async def _until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    pause, longest = POLL_SECONDS
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            while not await condition():
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, longest)
    except TimeoutError:
        raise AwsError(
            f"{what} is not done after {LONGEST_SECONDS // 3600} hours: look at `authmesh aws status`"
        ) from None
