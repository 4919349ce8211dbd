"""Bus, queues, topic and bucket.

The CloudFormation stack of `deploy/aws/events.yaml`, made in the local account as it would be in AWS.

And the local inbox, a queue that gets every message to a person.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from mesh.local.emulator_gaps import fill_gaps
from mesh.local.stack import ensure_stack
from mesh.operator.aws_account import AwsAccount
from mesh.operator.errors import OperatorError
from mesh.operator.state_dir import PROJECT

TEMPLATE = PROJECT / "deploy" / "aws" / "events.yaml"
STACK = "authmesh-events"
INBOX_QUEUE = "authmesh-inbox"


@dataclass(frozen=True, slots=True)
class EventStack:
    """What services have to know of it."""

    event_bus: str
    messages_topic_arn: str
    audit_queue_url: str
    audit_bucket: str
    checkpoint_key: str
    acknowledgement_key: str
    inbox_queue_url: str
    notices_queue_url: str
    outputs: Mapping[str, str]
    """All of the stack's."""


async def ensure(account: AwsAccount) -> tuple[EventStack, bool]:
    """Makes the stack and the inbox, or changes them where the template changed; quick when all is there.

    Returns:
        The stack, and whether anything was made or changed.

    Raises:
        OperatorError: the account can't be reached, or CloudFormation refuses.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        async with AsyncExitStack() as stack:
            names = ("cloudformation", "sqs", "sns")
            clients = dict(
                zip(
                    names,
                    await asyncio.gather(*(stack.enter_async_context(account.client(name)) for name in names)),
                    strict=True,
                )
            )
            outputs, changed = await ensure_stack(clients["cloudformation"], STACK, TEMPLATE)
            if changed and account.emulated:
                await fill_gaps(account, outputs)
            made = EventStack(
                event_bus=outputs["EventBusName"],
                messages_topic_arn=outputs["MessagesTopicArn"],
                audit_queue_url=outputs["AuditQueueUrl"],
                audit_bucket=outputs["AuditBucketName"],
                checkpoint_key=outputs["CheckpointKeyArn"],
                acknowledgement_key=outputs["AcknowledgementKeyArn"],
                inbox_queue_url=await _inbox(clients["sqs"], clients["sns"], outputs["MessagesTopicArn"]),
                notices_queue_url=outputs["NoticesQueueUrl"],
                outputs=outputs,
            )
            return made, changed
    except (BotoCoreError, ClientError, OSError, TimeoutError) as error:
        hint = "" if account.emulated else "; unset AWS_ENDPOINT_URL to have an emulator started for you"
        raise OperatorError(f"the event stack can't be made in {account.endpoint_url}: {error}{hint}") from None


async def public_key(account: AwsAccount, key: str) -> bytes:
    """The public half of a key that signs something of the audit trail, in PEM.

    Raises:
        OperatorError: KMS doesn't give it.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

    try:
        async with account.client("kms") as kms:
            answer = await kms.get_public_key(KeyId=key)
    except (BotoCoreError, ClientError, OSError, TimeoutError) as error:
        raise OperatorError(
            f"can't read a public key of the audit trail from {account.endpoint_url}: {error}"
        ) from None
    return load_der_public_key(answer["PublicKey"]).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


async def _inbox(sqs: Any, sns: Any, topic_arn: str) -> str:
    region, owner = topic_arn.split(":")[3:5]
    partition = topic_arn.split(":")[1]
    arn = f"arn:{partition}:sqs:{region}:{owner}:{INBOX_QUEUE}"
    policy = (
        f'{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Service":"sns.amazonaws.com"}},"Action":"sqs:SendMessage",'
        f'"Resource":"{arn}","Condition":{{"ArnEquals":{{"aws:SourceArn":"{topic_arn}"}}}}}}]}}'
    )
    queue = await sqs.create_queue(
        QueueName=INBOX_QUEUE, Attributes={"Policy": policy, "MessageRetentionPeriod": "1209600"}
    )
    # Both calls answer with what is there when it is there already.
    await sns.subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    return str(queue["QueueUrl"])
