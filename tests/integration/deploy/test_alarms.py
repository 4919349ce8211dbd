"""Each alarm of deploy/aws fires once in the emulator, and its topic tells; its metric is what the code, or
AWS, really writes.

The emulator compares neither dimensions nor missing data, and AWS writes its own metrics itself, so those halves are
held by name: against what the code logs, and against the metrics that AWS documents.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from mesh.cloudformation.stacks import chosen
from mesh.local.components import aws_emulator
from mesh.operator.aws_account import AwsAccount
from mesh.outbox.lag import OLDEST, PARKED
from mesh.telemetry.embedded_metric import NAMESPACE
from services.audit.pipeline.metrics import CHECKPOINTS, NOT_STORED
from services.mail.handler import NOT_SENT
from tests.conftest import held
from tests.integration.services.audit.conftest import until
from tests.kit.stacks import deploy_all, physical_ids

pytestmark = pytest.mark.slow

OF_AWS = {
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName"),
    ("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName"),
    ("AWS/Events", "FailedInvocations", "EventBusName,RuleName"),
    ("AWS/Lambda", "Errors", "FunctionName"),
    ("AWS/RDS", "FreeStorageSpace", "DBInstanceIdentifier"),
    ("AWS/RDS", "CPUUtilization", "DBInstanceIdentifier"),
    ("AWS/RDS", "DatabaseConnections", "DBInstanceIdentifier"),
    ("AWS/ElastiCache", "DatabaseMemoryUsagePercentage", "ReplicationGroupId"),
    ("AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", "LoadBalancer"),
    ("AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", "LoadBalancer"),
    ("AWS/ApplicationELB", "TargetResponseTime", "LoadBalancer"),
    ("AWS/WAFV2", "BlockedRequests", "WebACL,Region,Rule"),
}
"""Namespace, metric and dimensions, as the services' own documentation names them."""
OF_OURS = {OLDEST, PARKED, NOT_STORED, CHECKPOINTS, NOT_SENT}


TEMPLATES = {stack.short_name: stack.template for stack in chosen()}
ALARMS = {
    name: resource["Properties"]
    for template in TEMPLATES.values()
    for name, resource in template.resources.items()
    if resource["Type"] == "AWS::CloudWatch::Alarm"
}
METRICS_OF_FILTERS = {
    transformation["MetricName"]
    for template in TEMPLATES.values()
    for resource in template.resources.values()
    if resource["Type"] == "AWS::Logs::MetricFilter"
    for transformation in resource["Properties"]["MetricTransformations"]
}


@dataclass(frozen=True)
class Stack:
    """The stack with all its alarms, and a queue that hears them."""

    account: AwsAccount
    physical: dict[str, str]
    inbox: str
    told: list[str] = field(default_factory=list)
    """What came by the topic of alarms so far."""

    async def heard(self, wanted: str) -> bool:
        """Whether a message with this in it has come."""
        async with self.account.client("sqs") as sqs:
            answer = await sqs.receive_message(QueueUrl=self.inbox, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                self.told.append(message["Body"])
                await sqs.delete_message(QueueUrl=self.inbox, ReceiptHandle=message["ReceiptHandle"])
        return any(wanted in body for body in self.told)


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with held(
        aws_emulator.running(tmp_path_factory.mktemp("alarms"), services=(*aws_emulator.SERVICES, "monitoring"))
    ) as emulator:
        account = emulator.account
        await deploy_all(account)
        physical = await physical_ids(account)
        async with account.client("sns") as sns, account.client("sqs") as sqs:
            inbox = (await sqs.create_queue(QueueName="alarms"))["QueueUrl"]
            arn = (await sqs.get_queue_attributes(QueueUrl=inbox, AttributeNames=["QueueArn"]))["Attributes"][
                "QueueArn"
            ]
            await sns.subscribe(
                TopicArn=physical["AlarmsTopic"],
                Protocol="sqs",
                Endpoint=arn,
                Attributes={"RawMessageDelivery": "true"},
            )
        yield Stack(account, physical, inbox)


@pytest.mark.parametrize("name", ALARMS)
async def test_the_alarm_fires(stack: Stack, name: str) -> None:
    alarm = ALARMS[name]
    breaching, calm = float(alarm["Threshold"]) + 1, float(alarm["Threshold"])
    if alarm["ComparisonOperator"] == "LessThanThreshold":
        breaching = calm - 1
    # A state of OK first: the emulator tells of changes only.
    async with stack.account.client("cloudwatch") as cloudwatch:
        for value in (calm, breaching):
            await cloudwatch.put_metric_data(
                Namespace=alarm["Namespace"], MetricData=[{"MetricName": alarm["MetricName"], "Value": value}]
            )

        async def is_alarm() -> bool:
            (found,) = (await cloudwatch.describe_alarms(AlarmNames=[stack.physical[name]]))["MetricAlarms"]
            return bool(found["StateValue"] == "ALARM")

        if alarm.get("Statistic") != "Sum" or alarm["ComparisonOperator"] == "GreaterThanThreshold":
            await until(is_alarm)
            await until(lambda: stack.heard(stack.physical[name]))
        else:
            # Nothing at all was signed: what the sum of an empty period is, the alarm says by `breaching`.
            assert alarm["TreatMissingData"] == "breaching"


def test_each_metric_is_one_that_is_written() -> None:
    for name, alarm in ALARMS.items():
        dimensions = ",".join(item["Name"] for item in alarm.get("Dimensions", []))
        if alarm["Namespace"] == NAMESPACE:
            assert alarm["MetricName"] in OF_OURS | METRICS_OF_FILTERS, name
            # Ours are counted under no dimension, too: one series for all services.
            assert dimensions == "", name
        else:
            assert (alarm["Namespace"], alarm["MetricName"], dimensions) in OF_AWS, name


async def test_an_attempt_on_a_key_is_told(stack: Stack) -> None:
    """Only AWS itself may send events of `aws.kms`, so the rule is asked what it would take."""
    rule = "authmesh-keys-in-danger"
    async with stack.account.client("kms") as kms, stack.account.client("events") as events:
        arn = (await kms.describe_key(KeyId="alias/authmesh-data"))["KeyMetadata"]["Arn"]
        pattern = (await events.describe_rule(Name=rule))["EventPattern"]
        assert [target["Arn"] for target in (await events.list_targets_by_rule(Rule=rule))["Targets"]] == [
            stack.physical["AlarmsTopic"]
        ]

        async def is_told(name: str, key: str) -> bool:
            # CloudTrail's `resources` is an array of objects; EventBridge looks into those, the emulator does not.
            detail = {"eventName": name, "errorCode": "AccessDenied", "resources": {"ARN": key}}
            event = {
                "id": "1", "account": "000000000000", "source": "aws.kms", "time": "2026-11-26T00:00:00Z",
                "region": "us-east-1",
                "resources": [], "detail-type": "AWS API Call via CloudTrail", "detail": detail,
            }  # fmt: skip
            return bool((await events.test_event_pattern(EventPattern=pattern, Event=json.dumps(event)))["Result"])

        assert await is_told("ScheduleKeyDeletion", arn)
        assert await is_told("DisableKey", arn)
        assert await is_told("PutKeyPolicy", arn)
        assert not await is_told("Decrypt", arn)
        assert not await is_told("DisableKey", f"{arn[:-4]}0000")
