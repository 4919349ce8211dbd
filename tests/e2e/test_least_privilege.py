"""Each role of deploy/aws may do what its service does, and nothing else.

A whole mesh calls AWS through a recorder, and what was called is held against the policies.
"""

import ast
import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.session import get_session

from mesh.cloudformation.stacks import chosen
from mesh.local.components import aws_emulator
from mesh.model.mesh import load_mesh
from services.audit.trail.objects import SUFFIX
from tests.conftest import held
from tests.e2e.conftest import RunningMesh, eventually, running, sign_in_again, sign_up
from tests.kit.aws_recorder import OPERATOR, Recorder, recording, statements
from tests.kit.envelopes import envelope, event

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
STACKS = {stack.short_name: stack.template for stack in chosen()}
APIS = {"events": "events", "kms": "kms", "s3": "s3", "sns": "sns", "sqs": "sqs", "sesv2": "ses"}
"""botocore's names, and IAM's."""
BESIDE = {"secrets"}
"""Policies of a role that its code does not use: the secrets store driver reads secrets in the pod's name."""
BUCKET = "authmesh-audit-000000000000-us-east-1"
OTHER_CUSTODY = {"kms:CreateKey", "kms:GetPublicKey", "kms:Sign", "kms:ScheduleKeyDeletion"}
"""What Token would call with SIGNING_KEYS=kms. The templates have kms-rooted (docs/keys.md)."""
LOCAL_ONLY = {"sqs:GetQueueUrl"}
"""`authmesh audit redrive` finds the queue of a local mesh; in AWS it is named."""
IMPLIED = {
    "s3:PutObject": {"kms:GenerateDataKey"}, "s3:GetObject": {"kms:Decrypt"},
    "sns:Publish": {"kms:GenerateDataKey", "kms:Decrypt"},
}  # fmt: skip
"""What S3 and SNS do with our key in the caller's name (their documentation of encrypted buckets and topics)."""
S3_ACTIONS = {"s3:ListObjectsV2": "s3:ListBucket"}


@dataclass(frozen=True)
class Watched:
    """A mesh whose calls are recorded."""

    mesh: RunningMesh
    recorder: Recorder


@pytest.fixture(scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    folder = tmp_path_factory.mktemp("privilege")
    async with (
        held(aws_emulator.running(folder / "aws")) as emulator,
        held(recording(emulator.port)) as recorder,
        held(
            running(
                folder / "mesh",
                **(dict(emulator.environment) | {"AWS_ENDPOINT_URL": recorder.url}),
                CHECKPOINT_SECONDS="4",
                SIGNING_KEYS="kms-rooted",
                SIGNING_KMS_KEY_ID="alias/authmesh-data",
            )
        ) as mesh,
    ):
        async with asyncio.timeout(150):
            await _everything(mesh, recorder)
        yield Watched(mesh, recorder)


async def _everything(mesh: RunningMesh, recorder: Recorder) -> None:
    """What makes services call AWS in every way that they can."""
    client = mesh.clients["grpc"]
    seen = recorder.actions
    administrator = await sign_up(mesh, client)
    assert (await mesh.authmesh("admin", "grant", administrator.email))[0] == 0
    person = await sign_up(mesh, client)
    await client.ok("ResourceService/CreateResource", {"resource": {"displayName": "plan"}}, person.token)
    # A refusal, which is an event of the service that refuses.
    await client.call("AuditService/QueryEvents", {}, person.token)
    await eventually(lambda: _has(seen["audit"], "events:PutEvents"))
    # A stolen refresh token: an event that becomes a notice, and a message.
    first = person.refresh
    for _ in range(2):
        person.tokens = await client.ok("TokenService/RefreshToken", person.refresh)
    await client.call("TokenService/RefreshToken", first)
    await eventually(lambda: _has(seen["auth"], "sqs:DeleteMessage"))
    # S3 is overloaded for a while.
    recorder.puts_fail = True
    await sign_in_again(client, person)
    await eventually(lambda: _has(seen["audit"], "sqs:ChangeMessageVisibility"), 60)
    recorder.puts_fail = False
    # Another process opens the keys again.
    await mesh.kill("token")
    await eventually(lambda: _has(seen["token"], "kms:Decrypt"))

    # An object that this process has not written, as another replica's: it is read.
    async with mesh.aws.client("s3") as s3:
        listed = await s3.list_objects_v2(Bucket=BUCKET, Prefix="audit/source=auth/")
        key = listed["Contents"][0]["Key"]
        body = await (await s3.get_object(Bucket=BUCKET, Key=key))["Body"].read()
        await s3.put_object(Bucket=BUCKET, Key=key.replace(SUFFIX, f"0{SUFFIX}"), Body=body)

    async def trail_is_read() -> bool:
        return {"s3:ListBucket", "s3:GetObject", "kms:Sign", "kms:GetPublicKey"} <= seen["audit"]

    await eventually(trail_is_read, 60)
    await _operate(mesh)


async def _has(found: set[str], action: str) -> bool:
    return action in found


async def _operate(mesh: RunningMesh) -> None:
    """What operators do to the trail: redrive, verify, acknowledge."""
    async with mesh.aws.client("sqs") as sqs:
        url = (await sqs.get_queue_url(QueueName="authmesh-audit-dlq"))["QueueUrl"]
        # A second first event of Auth: it is stored, found by whoever verifies, and acknowledged.
        await sqs.send_message(QueueUrl=url, MessageBody=envelope(event(1, source="auth")))
    status, output, errors = await mesh.authmesh("audit", "redrive")
    assert (status, output.splitlines()[0]) == (0, "1 moved back"), errors

    async def findings() -> list[str]:
        report = json.loads((await mesh.authmesh("audit", "verify", "--json"))[1])
        return [finding["id"] for finding in report["findings"]] if report["checkpoints"] else []

    ids = await eventually(findings)
    status, output, errors = await mesh.authmesh("audit", "acknowledge", *ids, "--reason", "a test forged it")
    assert status == 0, output + errors


def _granted(role: str) -> tuple[set[str], set[str]]:
    """Actions of a service's role: what its code may call, and what other services of AWS may do in its name."""
    properties = STACKS["compute"].resources[role]["Properties"]
    documents = [policy["PolicyDocument"] for policy in properties["Policies"] if policy["PolicyName"] not in BESIDE]
    outputs = {one["Export"]["Name"]: one["Value"]["Ref"] for one in _outputs("events") if "Ref" in one["Value"]}
    for attached in properties["ManagedPolicyArns"]:
        policy = STACKS["events"].resources[outputs[attached["Fn::ImportValue"]]]
        documents.append(policy["Properties"]["PolicyDocument"])
    return _split(documents)


def _split(documents: list[Any]) -> tuple[set[str], set[str]]:
    direct: set[str] = set()
    via: set[str] = set()
    for document in documents:
        for statement in statements(document):
            assert statement["Effect"] == "Allow"
            condition: Any = statement.get("Condition", {})
            actions: Any = statement["Action"]
            (via if "kms:ViaService" in condition.get("StringEquals", {}) else direct).update(actions)
    return direct, via


def _outputs(stack: str) -> list[Any]:
    return list(STACKS[stack].body["Outputs"].values())


@pytest.mark.parametrize("node", load_mesh().nodes)
async def test_a_role_has_the_actions_that_its_service_calls(watched: Watched, node: str) -> None:
    called = watched.recorder.actions[node]
    direct, via = _granted(f"{node.title()}Role")
    assert direct == called
    assert via == set().union(*(IMPLIED.get(action, set()) for action in called))


async def test_operators_policies_have_the_actions_of_their_commands(watched: Watched) -> None:
    policies = [
        STACKS["events"].resources[name]["Properties"]["PolicyDocument"]
        for name in ("RedrivePolicy", "AcknowledgePolicy")
    ]
    direct, via = _split(policies)
    # The local runner and this test call in the operator's name, too.
    called = watched.recorder.actions[OPERATOR]
    assert direct <= called
    of_commands = {
        action
        for file in ("commands/redrive.py", "commands/acknowledge.py", "commands/trail_location.py", "trail/archive.py")
        for action in _static(PROJECT / "services/audit" / file)
    }
    assert direct == of_commands - LOCAL_ONLY
    assert via == {"kms:GenerateDataKey", "kms:Decrypt"}


async def test_no_call_of_the_code_was_left_out(watched: Watched) -> None:
    called = set().union(*watched.recorder.actions.values())
    written = {
        action
        for folder in ("mesh/outbox", "services")
        for file in (PROJECT / folder).rglob("*.py")
        if "mail" not in file.parts
        for action in _static(file)
    }
    assert written - called <= OTHER_CUSTODY
    assert written >= {"events:PutEvents", "sns:Publish", "sqs:ReceiveMessage", "s3:PutObject", "kms:Sign"}


@pytest.mark.parametrize(("role", "files"), [
    ("MailFunctionRole", ("services/mail/handler.py", "mesh/lambda_batch.py")),
    ("ConsumerRole", ("services/audit/pipeline/lambda_handler.py", "mesh/lambda_batch.py")),
])  # fmt: skip
def test_a_function_has_the_actions_that_its_code_calls(role: str, files: tuple[str, ...]) -> None:
    policies = STACKS["functions"].resources[role]["Properties"]["Policies"]
    direct, _ = _split([policy["PolicyDocument"] for policy in policies])
    written = {action for file in files for action in _static(PROJECT / file)}
    # Lambda receives and deletes in the function's name, and writes its log.
    poller = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
    log = {"logs:CreateLogStream", "logs:PutLogEvents"}
    implied = set().union(*(IMPLIED.get(action, set()) for action in written))
    assert direct == written | poller | log | implied


def _static(file: Path) -> set[str]:
    """Actions that a file calls: methods that only clients of AWS have."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = node.func.attr
        if name == "get_paginator" and isinstance(node.args[0], ast.Constant):
            name = str(node.args[0].value)
        elif not any(keyword.arg and keyword.arg[0].isupper() for keyword in node.keywords):
            # Arguments of AWS begin with a capital.
            continue
        found |= _METHODS.get(name, set())
    return found


def _methods() -> Mapping[str, set[str]]:
    session = get_session()
    methods: dict[str, set[str]] = {}
    for api, service in APIS.items():
        for operation in session.get_service_model(api).operation_names:
            action = f"{service}:{operation.removesuffix('Batch')}"
            methods.setdefault(xform_name(operation), set()).add(S3_ACTIONS.get(action, action))
    return methods


_METHODS = _methods()
