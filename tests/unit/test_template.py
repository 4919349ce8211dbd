"""What deploy/aws/events.yaml lets processes do: no more than they need."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.model import load_mesh

TEMPLATE = Path(__file__).parents[2] / "deploy/aws/events.yaml"


class _Loader(yaml.SafeLoader):
    """Reads `!Ref X` as X."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: node.value)


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(TEMPLATE.read_text(), _Loader)["Resources"]
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
        name: [statement for statement in resource["Properties"]["PolicyDocument"]["Statement"] if "events:PutEvents" in _actions(statement)]
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
                "Condition": {"ForAllValues:StringEquals": {"events:source": f"authmesh.{node}"}, "Null": {"events:source": "false"}},
            }
        ]
        for node in load_mesh().nodes
    }


def test_the_sources_of_the_template_are_the_nodes_of_the_mesh() -> None:
    parameters = yaml.load(TEMPLATE.read_text(), _Loader)["Parameters"]
    assert parameters["Sources"]["Default"].split(",") == list(load_mesh().nodes)


def test_nobody_but_the_rule_and_the_role_that_redrives_sends_to_the_audit_queue(resources: dict[str, Any]) -> None:
    statements = {statement["Sid"]: statement for statement in resources["AuditQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]}
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
