"""People hear of what they should hear of, once, and of nothing else."""

import asyncio
import json
import uuid

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from authmesh.token.v1 import token_set_pb2
from google.protobuf import json_format

from mesh.aws import open_client
from mesh.errors import MeshError
from mesh.local.components import aws_emulator
from mesh.operator.aws_account import REGION
from services.auth.notifications import NoticeError, NotificationConsumer
from services.auth.settings import AuthSettings
from services.auth.sign_in import Attempt
from tests.integration.services.audit.conftest import until
from tests.integration.services.auth.conftest import ELSEWHERE, EMAIL, HOME, PASSWORD, Auth


async def fail(auth: Auth, times: int, *, email: str = EMAIL, address: str = HOME) -> None:
    for _ in range(times):
        with pytest.raises(MeshError):
            await auth.sign_in(email, "wrong", address=address)


def notice(
    auth: Auth,
    user_id: uuid.UUID | str,
    *,
    session: str = "one",
    event_type: str = "token.reuse_detected",
    source: str = "token",
    bus: str = "token",
) -> str:
    event = AuditEvent(
        type=event_type,
        source=source,
        sequence=1,
        subject=f"users/{user_id}",
        session=f"users/{user_id}/sessions/{session}",
    )
    return json.dumps(
        {"source": f"authmesh.{bus}", "detail-type": event_type, "detail": json_format.MessageToDict(event)}
    )


def desk(auth: Auth) -> NotificationConsumer:
    return NotificationConsumer(auth.work, lambda: None, "")  # type: ignore[arg-type,return-value]


async def test_the_first_device_is_no_news_and_another_one_is(auth: Auth) -> None:
    await auth.verified()
    await auth.sign_in(address=HOME)
    assert await auth.kinds() == []
    device = token_set_pb2.Device(instance_id=str(uuid.uuid4()), display_name="Ada's phone", platform="android")
    await auth.gate.sign_in(Attempt(EMAIL, PASSWORD, "demo", device, [], ELSEWHERE, "test/1"))
    (message,) = [message for message in await auth.messages() if message["kind"] == "new_device"]
    assert message["facts"] == {"device": "Ada's phone (android)"}
    assert message["code"] == ""
    await auth.gate.sign_in(Attempt(EMAIL, PASSWORD, "demo", device, [], "192.0.2.1", "test/1"))
    await auth.sign_in(address=HOME)
    assert await auth.kinds() == ["new_device"]


async def test_a_wrong_password_from_elsewhere_is_no_new_device(auth: Auth) -> None:
    await auth.verified()
    await auth.sign_in()
    await fail(auth, 2, address=ELSEWHERE)
    assert await auth.kinds() == []


async def test_when_sign_ins_begin_to_be_slowed_the_owner_hears_of_it_once_a_day(auth: Auth) -> None:
    await auth.verified()
    await auth.sign_in()
    await fail(auth, 19, address=ELSEWHERE)
    assert await auth.kinds() == []
    await fail(auth, 5, address=ELSEWHERE)
    await fail(auth, 20, address="192.0.2.9")
    assert await auth.kinds() == ["lockout"]
    assert [event.email for event in await auth.events("auth.sign_in_throttled")] == [EMAIL]
    auth.clock.pass_(hours=25)
    await fail(auth, 20, address=ELSEWHERE)
    assert await auth.kinds() == ["lockout", "lockout"]


async def test_nobody_hears_of_an_address_without_an_account(auth: Auth) -> None:
    await fail(auth, 22, email="nobody@example.com")
    assert await auth.messages("nobody@example.com") == []


async def test_reuse_that_token_saw_becomes_one_message_for_each_session(auth: Auth) -> None:
    user_id = await auth.verified()
    for session in ("one", "one", "two"):
        await desk(auth).deliver(notice(auth, user_id, session=session))
    assert await auth.kinds() == ["token_reuse", "token_reuse"]


async def test_a_notice_about_somebody_who_is_gone_is_dropped(auth: Auth) -> None:
    await desk(auth).deliver(notice(auth, uuid.uuid4()))
    assert await auth.messages() == []


async def test_what_is_no_notice_is_refused(auth: Auth) -> None:
    user_id = await auth.verified()
    for body in (
        "no json",
        "[]",
        "{}",
        '{"detail": 7}',
        notice(auth, "nobody"),
        notice(auth, user_id, event_type="token.refreshed"),
    ):
        with pytest.raises(NoticeError):
            await desk(auth).deliver(body)


@pytest.mark.parametrize(("source", "bus"), [("token", "resource"), ("resource", "resource"), ("resource", "token")])
async def test_no_service_has_a_person_told_of_what_another_one_should_have_seen(
    auth: Auth, source: str, bus: str
) -> None:
    user_id = await auth.verified()
    with pytest.raises(NoticeError, match="another service"):
        await desk(auth).deliver(notice(auth, user_id, source=source, bus=bus))
    assert await auth.kinds() == []


async def test_notices_come_from_the_queue_and_poison_stays_in_it(
    auth: Auth, aws_server: aws_emulator.AwsEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws_server.environment.items():
        monkeypatch.setenv(name, value)
    settings = AuthSettings.model_construct(aws_region=REGION, aws_endpoint_url=aws_server.endpoint_url)
    user_id = await auth.verified()
    async with open_client("sqs", settings) as sqs:
        url = (await sqs.create_queue(QueueName=f"notices-{uuid.uuid4()}", Attributes={"VisibilityTimeout": "600"}))[
            "QueueUrl"
        ]
        for body in ("poison", notice(auth, user_id)):
            await sqs.send_message(QueueUrl=url, MessageBody=body)
        served = NotificationConsumer(auth.work, lambda: open_client("sqs", settings), url)

        async def told() -> bool:
            return await auth.kinds() == ["token_reuse"]

        async def only_poison() -> bool:
            names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            found = (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names))["Attributes"]
            return [int(found[name]) for name in names] == [0, 1]

        task = asyncio.create_task(served.run())
        try:
            await until(told)
            await until(only_poison)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
