"""All stacks of deploy/aws in an emulator, made as `authmesh aws deploy` makes them."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mesh.cloudformation.deployment import Deployment, Found
from mesh.cloudformation.stacks import Stack, chosen
from mesh.operator.aws_account import AwsAccount

CODE_BUCKET = "authmesh-code"
PARAMETERS = {
    "CertificateArn": "arn:aws:acm:us-east-1:000000000000:certificate/00000000-0000-4000-8000-000000000000",
    "BudgetEmail": "ops@example.org",
    "CodeBucket": CODE_BUCKET,
    "CodeKey": "code.zip",
    "MailFrom": "security@example.org",
}


@dataclass(frozen=True, slots=True)
class Made:
    """A stack that was made."""

    stack: Stack
    found: Found | None
    left_out: Sequence[str]


async def deploy(account: AwsAccount, *names: str, parameters: Mapping[str, str] = PARAMETERS) -> dict[str, Made]:
    """Makes stacks, in order, with what the emulator can make of them."""
    made = {}
    async with account.client("cloudformation") as cloudformation:
        deployment = Deployment(cloudformation, account="000000000000", region=account.region, emulated=True)
        for stack in chosen(names, parameters):
            found, left_out = await deployment.apply(await deployment.plan(stack), lambda *_: None)
            made[stack.short_name] = Made(stack, found, left_out)
    return made


async def deploy_all(account: AwsAccount) -> dict[str, Made]:
    """Makes every stack, with functions that do nothing."""
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("handler.py", "def handler(event, context):\n    return None\n")
    async with account.client("s3") as s3:
        await s3.create_bucket(Bucket=CODE_BUCKET)
        await s3.put_object(Bucket=CODE_BUCKET, Key="code.zip", Body=code.getvalue())
    return await deploy(account)


async def physical_ids(account: AwsAccount) -> dict[str, str]:
    """Physical ids of the resources of all stacks, by logical ids."""
    found: dict[str, str] = {}
    async with account.client("cloudformation") as cloudformation:
        async for page in cloudformation.get_paginator("describe_stacks").paginate():
            for stack in page["Stacks"]:
                answer = await cloudformation.describe_stack_resources(StackName=stack["StackName"])
                found |= {item["LogicalResourceId"]: item["PhysicalResourceId"] for item in answer["StackResources"]}
    return found
