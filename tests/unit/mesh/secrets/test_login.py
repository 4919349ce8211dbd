"""User names and passwords that are rotated while they are used."""

import pytest

from mesh.secrets.login import REREAD_SECONDS, Login, Logins
from mesh.secrets.source import SecretUnavailableError


class RefusedError(Exception):
    """The server doesn't let someone in."""


class Vault:
    """A source with versions that a test sets, and a clock."""

    name = "vault"

    def __init__(self, *versions: bytes) -> None:
        self.held: tuple[bytes, ...] | None = versions
        self.reads = 0
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    async def versions(self) -> tuple[bytes, ...]:
        self.reads += 1
        if self.held is None:
            raise SecretUnavailableError("vault: it is closed")
        return self.held


class Server:
    """Lets in who has one of its passwords."""

    def __init__(self, *passwords: str) -> None:
        self.passwords = passwords
        self.asked: list[str | None] = []

    async def enter(self, login: Login) -> str:
        self.asked.append(login.password)
        if login.password not in self.passwords:
            raise RefusedError(login.username)
        return f"in as {login.username}"


@pytest.fixture
def vault() -> Vault:
    return Vault(b'{"username": "ada", "password": "one", "host": "db"}')


@pytest.fixture
def logins(vault: Vault) -> Logins:
    return Logins(vault, clock=vault.clock)


@pytest.mark.parametrize(
    ("secret", "login"),
    [
        (b"swordfish\n", Login(None, "swordfish")),
        (b'{"username": "ada", "password": "p{"}', Login("ada", "p{")),
        (b' {"password": "p"}', Login(None, "p")),
    ],
)
def test_a_secret_is_a_password_or_an_object(secret: bytes, login: Login) -> None:
    assert Login.parse(secret) == login
    assert str(login.password) not in repr(login).replace("password", "").replace("Login(username", "")


@pytest.mark.parametrize("secret", [b"{", b"{}", b'{"password": 1}', b'{"username": 1, "password": "p"}', b"\xff"])
def test_what_is_no_login_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError):
        Login.parse(secret)


async def test_many_connections_at_once_read_once(vault: Vault, logins: Logins) -> None:
    server = Server("one")
    for _ in range(5):
        assert await logins.enter(server.enter, RefusedError) == "in as ada"
    assert vault.reads == 1
    vault.now += REREAD_SECONDS
    await logins.enter(server.enter, RefusedError)
    assert vault.reads == 2


async def test_a_password_that_was_rotated_a_moment_ago_is_read_again(vault: Vault, logins: Logins) -> None:
    server = Server("one")
    await logins.enter(server.enter, RefusedError)
    server.passwords, vault.held = ("two",), (b'{"username": "ada", "password": "two"}',)
    assert await logins.enter(server.enter, RefusedError) == "in as ada"
    assert server.asked == ["one", "one", "two"]


async def test_the_next_one_is_tried_before_it_is_current(vault: Vault, logins: Logins) -> None:
    vault.held = (b'{"username": "ada", "password": "one"}', b'{"username": "ada", "password": "two"}')
    server = Server("two")
    assert await logins.enter(server.enter, RefusedError) == "in as ada"
    assert server.asked == ["one", "two"]


async def test_one_who_is_let_in_nowhere_is_told_so_once(vault: Vault, logins: Logins) -> None:
    server = Server()
    with pytest.raises(RefusedError):
        await logins.enter(server.enter, RefusedError)
    assert server.asked == ["one"]


async def test_a_source_that_is_out_of_reach_takes_nothing_away(vault: Vault, logins: Logins) -> None:
    server = Server("one")
    await logins.enter(server.enter, RefusedError)
    vault.held, vault.now = None, 100.0
    assert await logins.enter(server.enter, RefusedError) == "in as ada"
    vault.held, vault.now = (b"{",), 200.0
    assert await logins.enter(server.enter, RefusedError) == "in as ada"
    assert await logins.current() == Login("ada", "one")


async def test_without_a_login_there_is_no_way_in(vault: Vault, logins: Logins) -> None:
    vault.held = None
    with pytest.raises(SecretUnavailableError, match="it is closed"):
        await logins.enter(Server("one").enter, RefusedError)
    assert await logins.current() is None
    vault.held = (b'{"password": "swordfish" oops',)
    with pytest.raises(SecretUnavailableError) as refusal:
        await logins.enter(Server("one").enter, RefusedError)
    assert "swordfish" not in str(refusal.value)


async def test_a_second_source_is_tried_behind_the_first(vault: Vault) -> None:
    logins = Logins(vault, Vault(b"two"), clock=vault.clock)
    assert await logins.enter(Server("two").enter, RefusedError) == "in as None"
    assert Logins.of("") is None
