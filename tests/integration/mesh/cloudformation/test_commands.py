"""`authmesh aws` against the emulator, as an operator types it."""

import asyncio
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from mesh.cloudformation.deployment import Deployment
from mesh.cloudformation.errors import AwsError
from mesh.cloudformation.stacks import ORDER, TEMPLATES, chosen
from mesh.local.components import aws_emulator
from mesh.operator.aws_account import AwsAccount
from tests.conftest import held
from tests.kit.stacks import PARAMETERS

pytestmark = pytest.mark.slow

AUTHMESH = Path(sys.executable).with_name("authmesh")
GIVEN = [f"-p{name}={PARAMETERS[name]}" for name in ("CertificateArn", "BudgetEmail")]
APIS = (*aws_emulator.SERVICES, "sts")


@pytest.fixture
async def account(tmp_path: Path) -> AsyncIterator[AwsAccount]:
    """An account in which nothing is."""
    async with held(aws_emulator.running(tmp_path / "aws", services=APIS)) as emulator:
        yield emulator.account


def _environment(account: AwsAccount) -> Mapping[str, str]:
    return {"PATH": os.defpath, "HOME": "/nonexistent", **account.environment}


async def run(account: AwsAccount | Mapping[str, str], *arguments: str, typed: str = "") -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `authmesh aws`."""
    environment = _environment(account) if isinstance(account, AwsAccount) else account
    process = await asyncio.create_subprocess_exec(
        AUTHMESH, "aws", *arguments, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, error = await process.communicate(typed.encode())
    return process.returncode or 0, out.decode(), error.decode()


async def _statuses(account: AwsAccount) -> dict[str, str]:
    _, out, _ = await run(account, "status")
    rows = [line.split() for line in out.splitlines() if line.startswith("authmesh-") and "=" not in line]
    return {row[0].removeprefix("authmesh-"): row[1] for row in rows}


@pytest.mark.slow
async def test_plan_deploy_status_and_destroy_from_nothing_to_nothing(account: AwsAccount, tmp_path: Path) -> None:
    code, out, error = await run(account, "settings", "--out", str(tmp_path / "eks"))
    assert code == 1
    assert "not deployed, or by another release: authmesh-data, authmesh-events, authmesh-keys" in error
    assert not (tmp_path / "eks").exists()
    code, out, error = await run(account, "plan", *GIVEN)
    assert (code, error) == (0, "")
    assert "authmesh-functions: left out; it needs CodeBucket and CodeKey" in out
    assert "make Database (AWS::RDS::DBInstance)" in out
    # What it costs comes before anything is made.
    assert re.search(r"together +[\d,]+\.\d\d", out.partition("authmesh-network: new")[0])
    for named in ("KMS Sign", "data transfer to the internet", "interface endpoint"):
        assert named in out
    assert set((await _statuses(account)).values()) == {"not"}

    code, out, error = await run(account, "deploy", *GIVEN, typed="n\n")
    assert (code, error) == (1, "authmesh: nothing was changed\n")
    assert set((await _statuses(account)).values()) == {"not"}

    code, out, error = await run(account, "deploy", *GIVEN, typed="y\n")
    assert (code, error) == (0, "")
    assert "  EventBusName = authmesh\n" in out
    statuses = await _statuses(account)
    missing = {name for name, found in statuses.items() if found != "CREATE_COMPLETE"}
    # The emulator has no budgets, and functions were left out.
    assert missing == {"functions", "budget"}

    code, out, error = await run(account, "settings", "--out", str(tmp_path / "eks"))
    assert (code, error) == (0, "")
    assert f"{tmp_path / 'eks' / 'token.env'}: DATABASE_SECRET, DATABASE_URL, REDIS_SECRET" in out.replace("\n", "")
    assert "EVENT_BUS=authmesh\n" in (tmp_path / "eks" / "settings.env").read_text()
    # The emulator gives a secret's name where CloudFormation gives its ARN.
    assert "TOKEN_OWNER_SECRET=" in (tmp_path / "eks" / "migrations" / "migrations.env").read_text()

    code, out, _ = await run(account, "deploy", *GIVEN, "--yes")
    assert code == 0
    assert out.count(": as it should be") == len(ORDER) - 2

    code, out, error = await run(account, "destroy", typed="yes\n")
    assert (code, error) == (1, "authmesh: nothing was destroyed\n")
    assert (await _statuses(account)) == statuses
    assert "AuditBucket stays: no user, not even root, can delete its objects for 365 days" in out
    assert "Database has deletion protection. First: aws rds modify-db-instance" in out
    assert "CheckpointKey stays: its policy refuses its deletion" in out

    code, out, error = await run(account, "destroy", typed="authmesh\n")
    assert (code, error) == (0, "")
    assert set((await _statuses(account)).values()) == {"not"}
    async with account.client("s3") as s3:
        left = {bucket["Name"] for bucket in (await s3.list_buckets())["Buckets"]}
    assert {"authmesh-audit-000000000000-us-east-1", "authmesh-trail-000000000000-us-east-1"} <= left

    # What stayed is adopted.
    code, out, error = await run(account, "deploy", *GIVEN, "--yes")
    assert (code, error) == (0, "")
    assert await _statuses(account) == statuses

    code, _, error = await run(account, "destroy", "--yes")
    assert (code, error) == (0, "")
    assert (await run(account, "destroy", "--yes"))[2].startswith("authmesh: there is nothing to destroy in account")


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A copy of the templates, to be changed."""
    return Path(shutil.copytree(TEMPLATES, tmp_path / "templates"))


def _changed(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


async def test_an_update_says_what_it_changes_and_asks_before_it_replaces(account: AwsAccount, templates: Path) -> None:
    where = ("--templates", str(templates))
    assert (await run(account, "deploy", "network", "events", "--yes", *where))[0] == 0
    _changed(templates / "events.yaml", "MessageRetentionPeriod: 864000", "MessageRetentionPeriod: 777600")
    code, out, _ = await run(account, "plan", "events", *where)
    assert code == 0
    assert "  change AuditQueue (AWS::SQS::Queue)" in out
    # By CloudFormation's word, which can't know the queue's name before: the rule's targets.
    assert re.search(r"^authmesh-events: \d+ to change(, \d+ to change, perhaps replace)?$", out, re.MULTILINE)
    # A plan leaves nothing behind.
    async with account.client("cloudformation") as cloudformation:
        left = (await cloudformation.list_change_sets(StackName="authmesh-events"))["Summaries"]
    assert [one["ExecutionStatus"] for one in left] == ["EXECUTE_COMPLETE"]
    code, out, _ = await run(account, "deploy", "events", "--yes", *where)
    assert code == 0

    _changed(templates / "events.yaml", "QueueName: authmesh-notices\n", "QueueName: authmesh-notices-2\n")
    code, out, error = await run(account, "deploy", "events", *where, typed="y\nn\n")
    assert "replace NoticesQueue (AWS::SQS::Queue)" in out
    assert (code, error) == (1, "authmesh: authmesh-events was not changed; the stacks before it were\n")
    async with account.client("sqs") as sqs:
        urls = (await sqs.list_queues())["QueueUrls"]
    assert not any(url.endswith("authmesh-notices-2") for url in urls)


async def test_the_emulator_of_a_local_mesh_takes_it(tmp_path: Path) -> None:
    # It answers for few APIs, and tells no account.
    async with aws_emulator.running(tmp_path / "aws") as emulator:
        local = emulator.account
        assert (await run(local, "deploy", "network", "data", "keys", "--yes"))[::2] == (0, "")
        assert (await run(local, "destroy", "keys", "data", "network", "--yes"))[::2] == (0, "")


async def test_a_parameter_that_was_given_once_is_kept(account: AwsAccount) -> None:
    assert (await run(account, "deploy", "events", "-pAlarmEmail=ops@example.org", "--yes"))[0] == 0
    code, out, _ = await run(account, "deploy", "events", "--yes")
    assert (code, out.count("authmesh-events: as it should be")) == (0, 1)


async def test_a_stack_that_rolls_back_names_the_resource_and_can_be_deployed_again(
    account: AwsAccount, templates: Path
) -> None:
    where = ("--templates", str(templates))
    assert (await run(account, "deploy", "network", "--yes", *where))[0] == 0
    _changed(
        templates / "data.yaml",
        'SecretStringTemplate: \'{"username": "authmesh-reader"}\'',
        "SecretStringTemplate: '{'",
    )
    code, _, error = await run(account, "deploy", "data", "--yes", *where)
    assert code == 1
    assert len(error.splitlines()) == 1
    assert error.startswith("authmesh: authmesh-data: CacheReader (AWS::ElastiCache::User): ")
    assert error.endswith("what it had made was deleted again; mend this and deploy again\n")
    _changed(
        templates / "data.yaml",
        "SecretStringTemplate: '{'",
        'SecretStringTemplate: \'{"username": "authmesh-reader"}\'',
    )
    assert (await run(account, "deploy", "data", "--yes", *where))[0] == 0
    assert (await _statuses(account))["data"] == "CREATE_COMPLETE"


async def test_an_update_that_fails_leaves_the_stack_as_it_was(account: AwsAccount, templates: Path) -> None:
    where = ("--templates", str(templates))
    assert (await run(account, "deploy", "network", "--yes", *where))[0] == 0
    broken = (
        "  Broken:\n    Type: AWS::SSM::Parameter\n    Properties:\n      Type: String\n"
        '      Value: "{{resolve:secretsmanager:nothing:SecretString:at}}"\n\nOutputs:\n'
    )
    _changed(templates / "network.yaml", "Outputs:\n", broken)
    code, _, error = await run(account, "deploy", "network", "--yes", *where)
    assert code == 1
    assert error.startswith("authmesh: authmesh-network: Broken (AWS::SSM::Parameter): ")
    assert error.endswith("it is as it was before; mend this and deploy again\n")


async def test_a_stack_without_those_before_it_says_what_is_missing(account: AwsAccount) -> None:
    code, _, error = await run(account, "deploy", "edge", "--yes")
    assert (code, error) == (
        1,
        "authmesh: authmesh-edge needs CertificateArn: add -p CertificateArn=VALUE, or name the stacks to deploy\n",
    )


async def test_what_validation_finds_before_a_deployment_is_named(account: AwsAccount) -> None:
    # In AWS a bucket of another account. (One's own is adopted; the emulator takes it for a conflict, too.)
    (events,) = chosen(["events"])
    async with account.client("cloudformation") as cloudformation, account.client("s3") as s3:
        await s3.create_bucket(Bucket="authmesh-audit-000000000000-us-east-1")
        region = Deployment(cloudformation, account="000000000000", region="us-east-1", emulated=False)
        with pytest.raises(AwsError, match=r"^authmesh-events: AuditBucket \(AWS::S3::Bucket\): .* already exists"):
            await region.apply(await region.plan(events), lambda *_: None)


async def test_a_region_without_a_service_is_named(account: AwsAccount) -> None:
    # AWS answers so in such a region, and the emulator for what it does not have.
    (network,) = chosen(["network"])
    async with account.client("cloudformation") as cloudformation:
        region = Deployment(cloudformation, account="000000000000", region="us-east-1", emulated=False)
        with pytest.raises(AwsError, match=r"authmesh-network: this region has no AWS::EC2::FlowLog: choose another"):
            await region.apply(await region.plan(network), lambda *_: None)


ANY_KEY = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
HERE = {"AWS_REGION": "us-east-1"}
NO_FILES = {
    "PATH": os.defpath,
    "HOME": "/nonexistent",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.mark.parametrize(
    ("environment", "arguments", "said"),
    [
        (
            HERE,
            ("status",),
            "there are no AWS credentials: sign in (`aws sso login`, `aws configure`), or set AWS_PROFILE",
        ),
        (ANY_KEY, ("status",), "no region is chosen: set AWS_REGION, or name one with --region"),
        (
            HERE | {"AWS_PROFILE": "nobody"},
            ("status",),
            "The config profile (nobody) could not be found: AWS_PROFILE names it, and no configuration file has it",
        ),
        (
            HERE | ANY_KEY | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
            ("status",),
            "AWS does not answer in us-east-1: is that the name of a region, and is there a network?",
        ),
        (
            ANY_KEY | {"AWS_REGION": "no region"},
            ("status",),
            "no region is not the name of a region: choose another (--region)",
        ),
        (HERE, ("plan", "netwrok"), f"netwrok is not a stack: choose from {', '.join(ORDER)}"),
        (HERE, ("plan", "-pAlarmMail=x"), "no stack has a parameter AlarmMail: did you mean AlarmEmail?"),
        (HERE, ("plan", "-pAlarmEmail"), "--parameter AlarmEmail: it is NAME=VALUE"),
        (
            HERE,
            ("plan", "--templates", "/nowhere"),
            "there are no templates in /nowhere: name the folder `deploy/aws` of a checkout (--templates)",
        ),
    ],
)
async def test_what_is_wrong_is_one_line(environment: dict[str, str], arguments: tuple[str, ...], said: str) -> None:
    assert await run(NO_FILES | environment, *arguments) == (1, "", f"authmesh: {said}\n")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ExpiredToken", "the AWS credentials have expired: sign in again (`aws sso login`), or get new ones"),
        (
            "InvalidClientTokenId",
            "AWS does not know these credentials (InvalidClientTokenId): look at AWS_PROFILE and AWS_ACCESS_KEY_ID",
        ),
        ("AccessDenied", "AWS does not permit GetCallerIdentity to these credentials: as AWS says it"),
    ],
)
def test_credentials_that_aws_refuses_are_one_line(code: str, said: str) -> None:
    # The emulator knows one key and no expiry: AWS's answers, as botocore reads them.
    from mesh.cloudformation.errors import explained

    error = ClientError({"Error": {"Code": code, "Message": "as AWS\nsays it"}}, "GetCallerIdentity")
    assert str(explained(error, region="us-east-1")) == said


def test_colours_and_a_bar_are_for_terminals(tmp_path: Path) -> None:
    async def on_terminal() -> str:
        async with aws_emulator.running(tmp_path / "aws", services=APIS) as emulator:
            environment = dict(_environment(emulator.account)) | {
                "TERM": "xterm-256color",
                "COLUMNS": "200",
            }
            main, side = pty.openpty()
            process = await asyncio.create_subprocess_exec(
                AUTHMESH, "aws", "deploy", "network", "--yes", env=environment, stdin=side, stdout=side, stderr=side
            )
            os.close(side)
            seen = b""
            while True:
                try:
                    part = await asyncio.to_thread(os.read, main, 65536)
                except OSError:
                    break
                if not part:
                    break
                seen += part
            os.close(main)
            await process.wait()
            return seen.decode()

    shown = asyncio.run(on_terminal())
    assert "\x1b[" in shown
    assert "━" in shown


async def test_without_a_terminal_there_is_no_escape(account: AwsAccount) -> None:
    _, out, error = await run(account, "deploy", "network", "--yes")
    assert "\x1b" not in out + error
    assert "authmesh-network: done" in out
