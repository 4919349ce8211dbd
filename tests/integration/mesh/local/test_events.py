"""The event stack in the AWS emulator: what CloudFormation makes of deploy/aws/events.yaml, and what outlives a
restart."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mesh.local import emulator_gaps, event_stack, inbox
from mesh.local.child import Child
from mesh.local.components import aws_emulator
from mesh.local.emulator_gaps import save_state
from mesh.local.infra import Infra
from mesh.local.supervisor import Supervisor
from mesh.operator.aws_account import AwsAccount
from mesh.operator.errors import OperatorError
from mesh.operator.status import Health
from tests.kit.conditions import until


@pytest.fixture(scope="module")
def account(aws_server: aws_emulator.AwsEmulator) -> AwsAccount:
    return aws_server.account


@pytest.fixture(scope="module")
async def stack(account: AwsAccount) -> event_stack.EventStack:
    return (await event_stack.ensure(account))[0]


@pytest.fixture
async def emulator(tmp_path: Path) -> AsyncIterator[tuple[Child, AwsAccount]]:
    """An emulator of its own, to be killed."""
    prepared = aws_emulator.prepare(Infra.find(), tmp_path)
    supervisor = Supervisor(tmp_path / "processes")
    (child,) = supervisor.start([prepared.program])
    await supervisor.healthy([child])
    yield child, prepared.account
    await supervisor.stop()


async def test_it_is_made_once(account: AwsAccount, stack: event_stack.EventStack) -> None:
    assert await event_stack.ensure(account) == (stack, False)
    async with account.client("sns") as sns:
        subscriptions = (await sns.list_subscriptions_by_topic(TopicArn=stack.messages_topic_arn))["Subscriptions"]
    assert len(subscriptions) == 1


async def test_names_are_those_that_the_services_expect(stack: event_stack.EventStack) -> None:
    assert stack.event_bus == "authmesh"
    assert stack.messages_topic_arn.endswith(":authmesh-messages")
    assert stack.audit_queue_url.endswith("/authmesh-audit")
    assert stack.audit_bucket == "authmesh-audit-000000000000-us-east-1"


async def test_the_bucket_keeps_versions_and_is_encrypted_and_closed(
    account: AwsAccount, stack: event_stack.EventStack
) -> None:
    async with account.client("s3") as s3:
        bucket = {"Bucket": stack.audit_bucket}
        assert (await s3.get_bucket_versioning(**bucket))["Status"] == "Enabled"
        rules = (await s3.get_bucket_encryption(**bucket))["ServerSideEncryptionConfiguration"]["Rules"]
        assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
        assert all((await s3.get_public_access_block(**bucket))["PublicAccessBlockConfiguration"].values())
        assert (await s3.get_bucket_lifecycle_configuration(**bucket))["Rules"]


async def test_what_is_in_the_bucket_can_be_neither_deleted_nor_shortened(
    account: AwsAccount, stack: event_stack.EventStack
) -> None:
    from botocore.exceptions import ClientError

    async with account.client("s3") as s3:
        put = await s3.put_object(Bucket=stack.audit_bucket, Key="audit/locked", Body=b"for good")
        version = {"Bucket": stack.audit_bucket, "Key": "audit/locked", "VersionId": put["VersionId"]}
        with pytest.raises(ClientError, match="AccessDenied"):
            await s3.delete_object(**version)
        retention = (await s3.get_object_retention(**version))["Retention"]
        assert retention["Mode"] == "COMPLIANCE"
        with pytest.raises(ClientError, match="AccessDenied"):
            await s3.put_object_retention(
                **version, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": datetime.now(UTC)}
            )
        with pytest.raises(ClientError, match="PreconditionFailed"):
            await s3.put_object(Bucket=stack.audit_bucket, Key="audit/locked", Body=b"replaced", IfNoneMatch="*")


async def test_the_emulators_gaps_are_filled_as_the_template_says() -> None:
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    parameters = yaml.load(event_stack.TEMPLATE.read_text(), Loader)["Parameters"]
    assert (parameters["RetentionMode"]["Default"], parameters["RetentionDays"]["Default"]) == (
        emulator_gaps.RETENTION_MODE,
        emulator_gaps.RETENTION_DAYS,
    )


@pytest.mark.parametrize("signs", ["checkpoint", "acknowledgement"])
async def test_checkpoints_and_acknowledgements_have_a_key_each_that_signs(
    account: AwsAccount, stack: event_stack.EventStack, signs: str
) -> None:
    arn = {"checkpoint": stack.checkpoint_key, "acknowledgement": stack.acknowledgement_key}[signs]
    async with account.client("kms") as kms:
        key = await kms.describe_key(KeyId=f"alias/authmesh-audit-{signs}s")
        assert key["KeyMetadata"]["Arn"] == arn
        assert (key["KeyMetadata"]["KeySpec"], key["KeyMetadata"]["KeyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")
        arguments = {"KeyId": arn, "Message": b"statement", "SigningAlgorithm": "ECDSA_SHA_256"}
        signature = (await kms.sign(**arguments))["Signature"]
        assert (await kms.verify(**arguments, Signature=signature))["SignatureValid"]


async def test_events_that_a_person_should_hear_of_reach_the_notices_queue_and_others_do_not(
    account: AwsAccount, stack: event_stack.EventStack
) -> None:
    entry = {"Source": "authmesh.token", "EventBusName": stack.event_bus}
    async with account.client("events") as events, account.client("sqs") as sqs:
        await events.put_events(
            Entries=[
                entry | {"DetailType": "token.refreshed", "Detail": '{"n": 1}'},
                entry | {"DetailType": "token.reuse_detected", "Detail": '{"n": 2}'},
                entry | {"Source": "authmesh.resource", "DetailType": "token.reuse_detected", "Detail": '{"n": 3}'},
            ]
        )
        received = await sqs.receive_message(
            QueueUrl=stack.notices_queue_url, WaitTimeSeconds=3, MaxNumberOfMessages=10
        )
        for url in (stack.notices_queue_url, stack.audit_queue_url):
            await sqs.purge_queue(QueueUrl=url)
    assert [json.loads(message["Body"])["detail"] for message in received["Messages"]] == [{"n": 2}]


async def test_events_of_the_mesh_reach_the_audit_queue_and_others_do_not(
    account: AwsAccount, stack: event_stack.EventStack
) -> None:
    entry = {"DetailType": "auth.signed_in", "Detail": '{"n": 1}', "EventBusName": stack.event_bus}
    async with account.client("events") as events, account.client("sqs") as sqs:
        await events.put_events(Entries=[entry | {"Source": "authmesh.auth"}, entry | {"Source": "somebody.else"}])
        received = await sqs.receive_message(QueueUrl=stack.audit_queue_url, WaitTimeSeconds=2, MaxNumberOfMessages=10)
        sources = [json.loads(message["Body"])["source"] for message in received["Messages"]]
        for message in received["Messages"]:
            await sqs.delete_message(QueueUrl=stack.audit_queue_url, ReceiptHandle=message["ReceiptHandle"])
    assert sources == ["authmesh.auth"]


async def test_undeliverable_events_are_kept(account: AwsAccount, stack: event_stack.EventStack) -> None:
    async with account.client("events") as events, account.client("sqs") as sqs:
        (target,) = (await events.list_targets_by_rule(Rule="authmesh-audit", EventBusName=stack.event_bus))["Targets"]
        attributes = (await sqs.get_queue_attributes(QueueUrl=stack.audit_queue_url, AttributeNames=["RedrivePolicy"]))[
            "Attributes"
        ]
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}
    assert target["DeadLetterConfig"]["Arn"].endswith(":authmesh-audit-dlq")
    assert json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"].endswith(":authmesh-audit-dlq")


async def test_the_inbox_gets_messages_to_people_and_nothing_else(
    account: AwsAccount, stack: event_stack.EventStack, tmp_path: Path
) -> None:
    file = tmp_path / "inbox.jsonl"
    collecting = asyncio.create_task(inbox.collect(account, stack.inbox_queue_url, file))
    try:
        async with account.client("sns") as sns:
            for body in (
                "no json",
                "[]",
                '{"kind": "without an address"}',
                '{"email": "a@example.com", "kind": "verify_email", "code": "123456"}',
            ):
                await sns.publish(TopicArn=stack.messages_topic_arn, Message=body)
        await until(lambda: bool(inbox.read(file)))
    finally:
        collecting.cancel()
    (message,) = inbox.read(file)
    assert (message.email, message.kind, message.code) == ("a@example.com", "verify_email", "123456")
    assert abs((datetime.now(UTC) - message.sent_time).total_seconds()) < 60


async def test_an_emulator_that_was_killed_finds_its_stack_and_objects_again(
    emulator: tuple[Child, AwsAccount],
) -> None:
    child, account = emulator
    made, changed = await event_stack.ensure(account)
    assert changed
    await save_state(child)
    async with account.client("s3") as s3:
        await s3.put_object(Bucket=made.audit_bucket, Key="2026/11/24/one", Body=b"kept")
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    await until(lambda: child.restarts > 0 and child.health is Health.HEALTHY)
    assert await event_stack.ensure(account) == (made, False)
    async with account.client("s3") as s3:
        assert await (await s3.get_object(Bucket=made.audit_bucket, Key="2026/11/24/one"))["Body"].read() == b"kept"


async def test_an_account_out_of_reach_is_named() -> None:
    away = AwsAccount.of_user("http://127.0.0.1:1", {})
    with pytest.raises(OperatorError, match=r"the event stack can't be made in http://127.0.0.1:1"):
        await event_stack.ensure(away)
