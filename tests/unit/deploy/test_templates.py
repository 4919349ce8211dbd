"""What every template in deploy/aws keeps to: judged by cfn-lint and cfn-guard, whose rules are all on, and by what
CloudFormation itself demands of a set of stacks."""

import json
import platform
import re
from typing import Any

import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from mesh.cloudformation.stacks import ORDER, TEMPLATES, chosen
from mesh.cloudformation.template import Template
from mesh.model.mesh import load_mesh

STACKS = {stack.short_name: stack.template for stack in chosen()}
INLINE_LIMIT = 51_200
"""Bytes of a template that is sent with the call (CloudFormation quotas)."""


def test_every_template_is_a_stack_of_the_order() -> None:
    assert sorted(file.stem for file in TEMPLATES.glob("*.yaml")) == sorted(ORDER)


def test_no_template_turns_a_rule_of_cfn_lint_off() -> None:
    assert not any("cfn-lint" in str(template.body.get("Metadata", "")) for template in STACKS.values())


@pytest.mark.skipif(platform.machine() == "aarch64", reason="cfn-guard has no wheel for this machine")
@pytest.mark.parametrize("name", ORDER)
def test_cfn_guard_finds_nothing(name: str) -> None:
    assert _guarded(STACKS[name].body)[1] == set()


@pytest.mark.skipif(platform.machine() == "aarch64", reason="cfn-guard has no wheel for this machine")
def test_each_rule_of_cfn_guard_is_asked_of_some_template_and_can_fail() -> None:
    asked: set[str] = set()
    failing: set[str] = set()
    for template in STACKS.values():
        asked |= _guarded(template.body)[0]
        # Worse in every way that the rules look at.
        worse = json.loads(
            json.dumps(template.body)
            .replace("true", "1").replace("false", "0").replace('"kms:', '"*:').replace('"s3:', '"*:')
            .replace("443", "22").replace("30", "7").replace("HTTPS", "HTTP")
        )  # fmt: skip
        for resource in worse["Resources"].values():
            resource.pop("DeletionPolicy", None)
            for gone in ("KmsMasterKeyId", "KmsKeyId"):
                resource.get("Properties", {}).pop(gone, None)
        failing |= _guarded(worse)[1]
    assert asked == RULES
    assert failing == RULES


RULES = frozenset(re.findall(r"^rule (\w+)", (TEMPLATES / "rules.guard").read_text(), re.MULTILINE))


def _guarded(body: Any) -> tuple[frozenset[str], frozenset[str]]:
    """The rules that were asked of a template, and those of them that it breaks."""
    from guardpycfn import validate_with_guard

    answer = validate_with_guard(json.dumps(body), (TEMPLATES / "rules.guard").read_text(), verbose=False)
    assert answer["success"], answer
    result = answer["result"]
    if isinstance(result, str):
        # The end of a report that was too long for the binding: the two lists are last in it.
        found = re.search(r'"not_applicable": (\[[^]]*\]),\s*"compliant": (\[[^]]*\])', result)
        assert found, result
        skipped, passed = json.loads(found[1]), json.loads(found[2])
    else:
        skipped, passed = result["not_applicable"], result["compliant"]
    return RULES - set(skipped), RULES - set(skipped) - set(passed)


@pytest.mark.parametrize("name", ORDER)
def test_a_template_can_be_sent_with_the_call(name: str) -> None:
    assert len(STACKS[name].text().encode()) <= INLINE_LIMIT


def test_a_stack_imports_what_stacks_before_it_export() -> None:
    exported: set[str] = set()
    for name in ORDER:
        assert STACKS[name].imports <= exported, name
        assert all(export.startswith(f"authmesh-{name}-") for export in STACKS[name].exports)
        exported |= STACKS[name].exports


@pytest.mark.parametrize("name", ORDER)
def test_every_resource_that_takes_tags_has_ours(name: str) -> None:
    untagged = []
    for logical_id, resource in STACKS[name].resources.items():
        schema: Any = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", resource["Type"]).schema
        tagging = schema.get("tagging", {})
        if not (tagging.get("taggable", schema.get("taggable", False)) and "tagProperty" in tagging):
            continue
        tags = resource["Properties"].get(tagging["tagProperty"].removeprefix("/properties/"))
        if "TagSpecifications" in resource["Properties"]:
            tags = resource["Properties"]["TagSpecifications"][0]["Tags"]
        if not (tags == {"project": "authmesh"} or {"Key": "project", "Value": "authmesh"} in (tags or ())):
            untagged.append((logical_id, resource["Type"]))
    assert untagged == []


STATEFUL = {
    "AWS::KMS::Key", "AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::Logs::LogGroup", "AWS::RDS::DBInstance",
    "AWS::ElastiCache::ReplicationGroup", "AWS::SecretsManager::Secret", "AWS::Cognito::UserPool", "AWS::EKS::Cluster",
    "AWS::ECR::Repository", "AWS::CloudTrail::Trail",
}  # fmt: skip


@pytest.mark.parametrize("name", ORDER)
def test_what_becomes_of_data_is_said(name: str) -> None:
    for logical_id, resource in STACKS[name].resources.items():
        if resource["Type"] in STATEFUL:
            assert {"DeletionPolicy", "UpdateReplacePolicy"} <= resource.keys(), logical_id


@pytest.mark.parametrize("name", ORDER)
def test_parameters_are_few_and_described_and_mostly_have_a_default(name: str) -> None:
    parameters = STACKS[name].parameters
    assert len(parameters) <= 7
    assert all(one.get("Description") for one in parameters.values())
    allowed = {"functions": {"CodeBucket", "CodeKey"}, "edge": {"CertificateArn"}, "budget": {"BudgetEmail"}}
    assert {key for key, one in parameters.items() if "Default" not in one} == allowed.get(name, set())


def test_a_parameter_has_one_meaning() -> None:
    seen: dict[str, Any] = {}
    for template in STACKS.values():
        for name, one in template.parameters.items():
            described = {key: value for key, value in one.items() if key != "Description"}
            assert seen.setdefault(name, described) == described, name


# The edge.


def _web_acl() -> dict[str, Any]:
    rules = STACKS["edge"].resources["WebAcl"]["Properties"]["Rules"]
    return {rule["Name"]: rule["Statement"] for rule in rules}


def test_the_web_acl_refuses_what_the_edge_would_refuse_and_nothing_smaller() -> None:
    pattern = re.compile(_web_acl()["request-too-large"]["RegexMatchStatement"]["RegexString"])
    limit = load_mesh().virtual_gateway.max_request_bytes
    refused = [length for length in range(limit * 16) if pattern.search(str(length))]
    assert refused == list(range(limit + 1, limit * 16))
    assert pattern.search("0" * 5 + str(limit + 1))


def test_the_web_acl_counts_every_way_to_auth() -> None:
    statement = _web_acl()["sign-in-rate"]["RateBasedStatement"]["ScopeDownStatement"]["RegexMatchStatement"]
    pattern = re.compile(statement["RegexString"])
    assert pattern.search("/v1/auth:signIn")
    assert pattern.search("/authmesh.auth.v1.AuthService/SignIn")
    assert not pattern.search("/v1/token:refresh")
    assert not pattern.search("/authmesh.token.v1.TokenService/RefreshToken")


def test_the_web_acl_gives_an_address_what_the_mesh_gives_a_site() -> None:
    parameters = STACKS["edge"].parameters
    gateway = load_mesh().virtual_gateway
    assert parameters["CallsPerFiveMinutes"]["Default"] == _in_five_minutes(gateway.request_limit.per_site)
    sign_in = next(limit for limit in gateway.rate_limits if any(one.endswith("/SignIn") for one in limit.methods))
    assert parameters["SignInsPerFiveMinutes"]["Default"] == _in_five_minutes(sign_in.per_site)


def _in_five_minutes(rate: Any) -> int:
    return int(rate.requests * 300 / rate.interval.total_seconds())


def test_the_load_balancer_waits_longer_than_a_stream_is_silent() -> None:
    attributes = {
        item["Key"]: item["Value"]
        for item in STACKS["edge"].resources["LoadBalancer"]["Properties"]["LoadBalancerAttributes"]
    }
    assert int(attributes["idle_timeout.timeout_seconds"]) > 90


def test_security_headers_and_addresses_come_from_the_load_balancer() -> None:
    listener = {
        item["Key"]: item["Value"] for item in STACKS["edge"].resources["Listener"]["Properties"]["ListenerAttributes"]
    }
    assert listener["routing.http.response.strict_transport_security.header_value"].startswith("max-age=31536000")


def test_each_service_has_a_role_that_only_its_own_pods_get() -> None:
    resources = STACKS["compute"].resources
    for node in load_mesh().nodes:
        role, pods = resources[f"{node.title()}Role"]["Properties"], resources[f"{node.title()}Pods"]["Properties"]
        assert role["RoleName"] == f"authmesh-{node}"
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "pods.eks.amazonaws.com"}
        assert trust["Condition"]["StringEquals"]["aws:RequestTag/kubernetes-service-account"] == node
        assert (pods["Namespace"], pods["ServiceAccount"]) == ("authmesh", node)
        assert pods["RoleArn"] == {"Fn::GetAtt": [f"{node.title()}Role", "Arn"]}


def test_the_key_of_signing_keys_is_used_by_token_and_nobody_else() -> None:
    statements = STACKS["keys"].resources["SigningKey"]["Properties"]["KeyPolicy"]["Statement"]
    cryptographic = {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:CreateGrant", "kms:*"}
    using = [one for one in statements if one["Effect"] == "Allow" and cryptographic & set(one["Action"])]
    (token,) = using
    assert token["Condition"] == {
        "ArnEquals": {
            "aws:PrincipalArn": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/authmesh-token"}
        }
    }


def test_every_database_password_is_rotated() -> None:
    resources = STACKS["keys"].resources
    rotated = {
        one["Properties"]["SecretId"]["Ref"]
        for one in resources.values()
        if one["Type"] == "AWS::SecretsManager::RotationSchedule"
    }
    assert rotated == {name for name, one in resources.items() if one["Type"] == "AWS::SecretsManager::Secret"}
    assert {f"{node.title()}DatabaseSecret" for node in load_mesh().nodes} <= rotated


# The page.

PROJECT = TEMPLATES.parents[1]
PAGE = (PROJECT / "docs" / "aws.md").read_text()


def test_the_page_has_every_stack_with_all_of_its_parameters_and_no_other() -> None:
    rows = {
        row[1]: set(re.findall(r"`([A-Z]\w+)`", row[2]))
        for row in re.finditer(r"^\| (\w+) \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)
        if row[1] in ORDER
    }
    assert rows == {name: set(template.parameters) for name, template in STACKS.items()}


def test_the_page_names_files_that_are_there() -> None:
    files = set(re.findall(r"(?:tests|mesh)/[\w/]+\.(?:py|yaml)", PAGE))
    assert files
    assert [name for name in files if not (PROJECT / name).is_file()] == []
    assert set(re.findall(r"`(\w+)\.yaml`", PAGE)) - {"mesh"} <= set(ORDER)


def test_what_is_read_is_what_is_written() -> None:
    template = Template.read(TEMPLATES / "network.yaml")
    assert template.text() == (TEMPLATES / "network.yaml").read_text()
