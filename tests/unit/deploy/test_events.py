"""The way of events in deploy/aws (events.yaml, functions.yaml, and the alarms of both and of observability.yaml): what
it lets processes do, and its numbers, each of which follows from what the code takes at the most."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh import lambda_batch
from mesh.model.mesh import load_mesh
from services.audit.pipeline import consumer
from services.auth import notifications as notices
from services.mail import handler as mail

PROJECT = Path(__file__).parents[3]
TEMPLATE = PROJECT / "deploy" / "aws" / "events.yaml"
TEMPLATES = (TEMPLATE, TEMPLATE.with_name("functions.yaml"), TEMPLATE.with_name("observability.yaml"))


class _Loader(yaml.SafeLoader):
    """Reads `!Ref X` as X."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: node.value)


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for template in TEMPLATES:
        found |= yaml.load(template.read_text(), _Loader)["Resources"]
    return found


@pytest.mark.parametrize(
    ("policy", "services"),
    [
        ("AuthEventsPolicy", {"events"}),
        ("MessagesPolicy", {"sns", "kms"}),
        ("NoticesPolicy", {"sqs"}),
        ("AuditPolicy", {"sqs", "s3", "kms"}),
        ("RedrivePolicy", {"sqs"}),
        ("AcknowledgePolicy", {"s3", "kms"}),
    ],
)
def test_a_process_gets_the_apis_that_it_calls(resources: dict[str, Any], policy: str, services: set[str]) -> None:
    granted = set()
    for statement in resources[policy]["Properties"]["PolicyDocument"]["Statement"]:
        actions = statement["Action"]
        granted |= {action.partition(":")[0] for action in ([actions] if isinstance(actions, str) else actions)}
        assert statement["Resource"] != "*"
        assert "*" not in str(actions)
    assert granted == services


def _actions(statement: dict[str, Any]) -> set[str]:
    return {statement["Action"]} if isinstance(statement["Action"], str) else set(statement["Action"])


def test_each_node_sends_events_in_its_own_name_and_in_no_other(resources: dict[str, Any]) -> None:
    granting = {
        name: [
            statement
            for statement in resource["Properties"]["PolicyDocument"]["Statement"]
            if "events:PutEvents" in _actions(statement)
        ]
        for name, resource in resources.items()
        if resource["Type"] == "AWS::IAM::ManagedPolicy"
    }
    assert {name: statements for name, statements in granting.items() if statements} == {
        f"{node.title()}EventsPolicy": [
            {
                "Effect": "Allow",
                "Action": "events:PutEvents",
                "Resource": "EventBus.Arn",
                # Of a key that is missing, `ForAllValues` says yes: `Null` says no.
                "Condition": {
                    "ForAllValues:StringEquals": {"events:source": f"authmesh.{node}"},
                    "Null": {"events:source": "false"},
                },
            }
        ]
        for node in load_mesh().nodes
    }


@pytest.mark.parametrize("template", TEMPLATES[:2], ids=lambda file: file.stem)
def test_the_sources_of_the_template_are_the_nodes_of_the_mesh(template: Path) -> None:
    parameters = yaml.load(template.read_text(), _Loader)["Parameters"]
    assert parameters["Sources"]["Default"].split(",") == list(load_mesh().nodes)


def test_nobody_but_the_rule_and_the_role_that_redrives_sends_to_the_audit_queue(resources: dict[str, Any]) -> None:
    statements = {
        statement["Sid"]: statement
        for statement in resources["AuditQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    }
    denied = statements["NobodyElseSends"]
    assert (denied["Effect"], denied["Principal"], denied["Action"]) == ("Deny", "*", "sqs:SendMessage")
    assert list(denied["Condition"]) == ["ArnNotEquals"]
    assert denied["Condition"]["ArnNotEquals"]["aws:SourceArn"] == "AuditRule.Arn"
    assert "aws:PrincipalArn" in denied["Condition"]["ArnNotEquals"]


def test_no_service_signs_acknowledgements_or_writes_them(resources: dict[str, Any]) -> None:
    for name, resource in resources.items():
        if resource["Type"] != "AWS::IAM::ManagedPolicy" or name == "AcknowledgePolicy":
            continue
        for statement in resource["Properties"]["PolicyDocument"]["Statement"]:
            assert "AcknowledgementKey" not in str(statement["Resource"]), name
            if _actions(statement) & {"s3:PutObject", "s3:*", "s3:DeleteObject"}:
                assert "acknowledgements" not in str(statement["Resource"]), name


def test_a_person_is_told_only_what_its_own_service_saw(resources: dict[str, Any]) -> None:
    pattern = resources["NoticeRule"]["Properties"]["EventPattern"]
    assert pattern["source"] == [f"authmesh.{event_type.partition('.')[0]}" for event_type in pattern["detail-type"]]


def _seconds(resources: dict[str, Any], queue: str) -> int:
    return int(resources[queue]["Properties"]["VisibilityTimeout"])


@pytest.mark.parametrize(("queue", "source", "function"), [
    ("AuditQueue", "ConsumerSource", "Consumer"), ("MailQueue", "MailFunctionSource", "MailFunction"),
])  # fmt: skip
def test_a_message_stays_with_its_function_for_six_timeouts_and_the_batching_window(
    resources: dict[str, Any], queue: str, source: str, function: str
) -> None:
    window = int(resources[source]["Properties"].get("MaximumBatchingWindowInSeconds", 0))
    assert _seconds(resources, queue) >= 6 * int(resources[function]["Properties"]["Timeout"]) + window
    assert resources[function]["Properties"]["Environment"]["Variables"]["QUEUE_URL"] in {
        queue,
        f"authmesh-events-{queue}Url",
    }


def test_each_timeout_holds_the_worst_case(resources: dict[str, Any]) -> None:
    # A function must have time for one thing that is as slow as can be, and for giving back the rest.
    assert int(resources["MailFunction"]["Properties"]["Timeout"]) >= mail.SEND_SECONDS + lambda_batch.RESERVE_SECONDS
    assert (
        int(resources["Consumer"]["Properties"]["Timeout"]) >= lambda_batch.CALL_SECONDS + lambda_batch.RESERVE_SECONDS
    )
    attempts = lambda_batch.ATTEMPTS * (lambda_batch.CONNECT_SECONDS + lambda_batch.READ_SECONDS)
    assert attempts < lambda_batch.CALL_SECONDS
    # The process that consumes: what it receives stays its own through the longest pause and an attempt.
    assert consumer.STORE_SECONDS + consumer.BACKOFF_SECONDS[1] < consumer.VISIBILITY_SECONDS
    assert consumer.VISIBILITY_SECONDS > consumer.STORE_SECONDS + consumer.GATHER_SECONDS + 20
    assert _seconds(resources, "NoticesQueue") > notices.NOTICES_AT_ONCE * notices.NOTICE_SECONDS


@pytest.mark.parametrize(("queue", "dead_letters", "seconds"), [
    ("AuditQueue", "AuditDeadLetters", 4 * 86400), ("NoticesQueue", "NoticesDeadLetters", 4 * 86400),
    ("MailQueue", "MailDeadLetters", 3600),
])  # fmt: skip
def test_a_dead_letter_has_time_left_however_late_it_became_one(
    resources: dict[str, Any], queue: str, dead_letters: str, seconds: int
) -> None:
    retention = {name: int(resources[name]["Properties"]["MessageRetentionPeriod"]) for name in (queue, dead_letters)}
    # A message keeps the time at which it was sent first.
    assert retention[dead_letters] - retention[queue] >= seconds


def test_an_outage_of_s3_may_last_two_days(resources: dict[str, Any]) -> None:
    attempts = int(resources["AuditQueue"]["Properties"]["RedrivePolicy"]["maxReceiveCount"])
    pauses = [min(900, 30 * 2**number) for number in range(attempts - 1)]
    assert 2 * 86400 < sum(pauses) < int(resources["AuditQueue"]["Properties"]["MessageRetentionPeriod"])


def test_every_queue_topic_and_bucket_refuses_what_comes_in_the_clear(resources: dict[str, Any]) -> None:
    covered: set[str] = set()
    for resource in resources.values():
        properties = resource.get("Properties", {})
        for statement in (
            properties.get("PolicyDocument", {}).get("Statement", []) if "PolicyDocument" in properties else []
        ):
            if (
                statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
                and statement["Effect"] == "Deny"
            ):
                named = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
                covered |= {name.removesuffix(".Arn") for name in named}
    kinds = ("AWS::SQS::Queue", "AWS::SNS::Topic", "AWS::S3::Bucket")
    assert {name for name, resource in resources.items() if resource["Type"] in kinds} <= covered


def test_no_key_of_the_trail_can_be_ended(resources: dict[str, Any]) -> None:
    keys = {
        name: resource
        for name, resource in resources.items()
        # That of CloudTrail is not ours to prove.
        if resource["Type"] == "AWS::KMS::Key" and name != "TrailKey"
    }
    watched = resources["KeysInDanger"]["Properties"]["EventPattern"]["detail"]["resources"]["ARN"]
    assert set(watched) == {f"{name}.Arn" for name in keys}
    for name, key in keys.items():
        denied = [item for item in key["Properties"]["KeyPolicy"]["Statement"] if item["Effect"] == "Deny"]
        assert [(item["Principal"], set(item["Action"]), item.get("Condition")) for item in denied] == [
            ("*", {"kms:ScheduleKeyDeletion", "kms:DisableKey"}, None)
        ], name
        assert key["DeletionPolicy"] == "Retain", name


def test_the_bucket_takes_objects_under_our_key_only(resources: dict[str, Any]) -> None:
    statements = {
        item["Sid"]: item for item in resources["AuditBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    }
    assert statements["OurKeyOnly"]["Condition"] == {
        "StringNotEqualsIfExists": {"s3:x-amz-server-side-encryption-aws-kms-key-id": "DataKey.Arn"}
    }
    assert statements["KmsOnly"]["Condition"] == {
        "StringNotEqualsIfExists": {"s3:x-amz-server-side-encryption": "aws:kms"}
    }


def test_operations_says_what_to_do_on_each_alarm_and_on_no_other(resources: dict[str, Any]) -> None:
    page = (PROJECT / "docs" / "operations.md").read_text().partition("## Alarms")[2].partition("\n## ")[0]
    told = {
        name
        for row in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE)
        for name in re.findall(r"\w+(?:Alarm|InDanger)", row)
    }
    assert told == {name for name, resource in resources.items() if resource["Type"] == "AWS::CloudWatch::Alarm"} | {
        "KeysInDanger"
    }


def test_silence_of_what_always_speaks_is_an_alarm(resources: dict[str, Any]) -> None:
    breaching = {
        name for name, item in resources.items() if item.get("Properties", {}).get("TreatMissingData") == "breaching"
    }
    # Services report their outbox every half a minute, and Audit signs every few minutes; the others report what went
    # wrong, or traffic.
    assert breaching == {"OutboxAgeAlarm", "CheckpointAlarm"}
