"""What deploy/aws/events.yaml lets processes do: no more than they need."""

from pathlib import Path
from typing import Any

import pytest
import yaml

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
        ("RelayPolicy", {"events"}),
        ("MessagesPolicy", {"sns", "kms"}),
        ("NoticesPolicy", {"sqs"}),
        ("AuditPolicy", {"sqs", "s3", "kms"}),
        ("RedrivePolicy", {"sqs"}),
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
