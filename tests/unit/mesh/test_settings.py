import pytest

from mesh.settings import DatabaseSettings, Environment, EventSettings, MessageSettings, ProcessSettings

COMPLETE = {
    "NODE": "user",
    "SOCKET": "/run/user.sock",
    "EGRESS": "/run/egress.sock",
    "DATABASE_URL": "postgresql://user:swordfish@/user",
    "REDIS_URL": "unix:///run/valkey.sock",
    "ISSUER": "https://localhost:8443",
    "AUDIENCE": "authmesh",
    "AWS_REGION": "eu-central-1",
    "EVENT_BUS": "authmesh",
    "MESSAGES_TOPIC_ARN": "arn:aws:sns:eu-central-1:000000000000:messages",
}


class AllSettings(ProcessSettings, DatabaseSettings, EventSettings, MessageSettings):
    """Of a service that has everything."""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_settings_come_from_the_environment(environment: pytest.MonkeyPatch) -> None:
    settings = AllSettings.load()
    assert settings.node == "user"
    assert settings.environment is Environment.PRODUCTION
    assert "swordfish" not in repr(settings)


@pytest.mark.parametrize("name", COMPLETE)
def test_a_missing_variable_is_named(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(name)
    with pytest.raises(SystemExit) as stopped:
        AllSettings.load()
    assert str(stopped.value) == f"authmesh: environment variable {name}: Field required"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ISSUER", "http://localhost"),
        ("SOCKET", "/" + "x" * 107),
        ("LOG_LEVEL", "loud"),
        ("MESSAGES_TOPIC_ARN", "secret-topic"),
        ("MAX_CONCURRENT_CALLS", "0"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_never_repeated(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        AllSettings.load()
    assert name in str(stopped.value)
    assert value not in str(stopped.value) or value == "0"


def test_a_service_without_a_database_events_and_messages_names_none(environment: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "AWS_REGION", "EVENT_BUS", "MESSAGES_TOPIC_ARN"):
        environment.delenv(name)
    assert ProcessSettings.load().node == "user"
