"""Secrets Manager, as the emulator has it: a rotation in its stages."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh.aws import open_client
from mesh.local.components import aws_emulator
from mesh.secrets.ring import KeyRing
from mesh.secrets.source import SecretUnavailableError, secret_source
from tests.conftest import held

ONE, TWO = b"1" * 32, b"2" * 32


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[aws_emulator.AwsEmulator]:
    folder = tmp_path_factory.mktemp("secrets")
    async with held(aws_emulator.running(folder, services=("secretsmanager",))) as emulator:
        yield emulator


@pytest.fixture
async def manager(server: aws_emulator.AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)

    class Place:
        aws_region, aws_endpoint_url = server.account.region, None

    async with open_client("secretsmanager", Place) as client:
        yield client


async def test_a_rotation_is_seen_in_each_of_its_stages(manager: Any) -> None:
    arn = (await manager.create_secret(Name="login", SecretString=json.dumps({"password": "one"})))["ARN"]
    source = secret_source(arn)
    assert [json.loads(version)["password"] for version in await source.versions()] == ["one"]
    # The rotation function has the next one in the server already, and the current one is still the last.
    two = json.dumps({"password": "two"})
    pending = await manager.put_secret_value(
        SecretId=arn, SecretString=two, ClientRequestToken="2" * 32, VersionStages=["AWSPENDING"]
    )
    assert [json.loads(version)["password"] for version in await source.versions()] == ["one", "two"]
    current = await manager.get_secret_value(SecretId=arn)
    await manager.update_secret_version_stage(
        SecretId=arn,
        VersionStage="AWSCURRENT",
        MoveToVersionId=pending["VersionId"],
        RemoveFromVersionId=current["VersionId"],
    )
    assert [json.loads(version)["password"] for version in await source.versions()] == ["two", "one"]


async def test_a_ring_keeps_what_was_current_before(manager: Any) -> None:
    arn = (await manager.create_secret(Name="pepper", SecretBinary=ONE))["ARN"]
    ring = KeyRing("peppers", [secret_source(arn)])
    await ring.step()
    await manager.put_secret_value(SecretId=arn, SecretBinary=TWO)
    await ring.step()
    assert ring.secrets == (TWO, ONE)


async def test_a_secret_that_is_not_there_is_named(manager: Any) -> None:
    arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:nothing-AbCdEf"
    with pytest.raises(SecretUnavailableError, match="nothing-AbCdEf: it has no current version"):
        await secret_source(arn).versions()


async def test_an_api_that_is_out_of_reach_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch, manager: Any) -> None:
    arn = (await manager.create_secret(Name="far", SecretString="swordfish"))["ARN"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(SecretUnavailableError) as refusal:
        await secret_source(arn).versions()
    assert "EndpointConnectionError" in str(refusal.value)
    assert "swordfish" not in str(refusal.value)
