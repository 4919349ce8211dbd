import pytest

from mesh.storage.redis_address import RedisAddress, Topology


@pytest.mark.parametrize(
    ("url", "without", "identity"),
    [
        ("redis://host", "redis://host", (None, None)),
        ("redis://user:p@host:6379/1", "redis://host:6379/1", ("user", "p")),
        ("rediss://user:p%40ss@host", "rediss://host", ("user", "p@ss")),
        ("unix://:p@/run/valkey?db=0", "unix:///run/valkey?db=0", (None, "p")),
    ],
)
def test_one_server_is_what_redis_py_takes(url: str, without: str, identity: tuple[str | None, str | None]) -> None:
    address = RedisAddress.parse(url)
    assert (address.topology, address.url) == (Topology.ONE, without)
    assert (address.username, address.password) == identity
    assert "p@ss" not in repr(address)


def test_sentinels_are_listed_and_name_their_set() -> None:
    address = RedisAddress.parse("rediss+sentinel://me:p%40ss@one,two:5000,[::1]:5001/the-set")
    assert address.topology is Topology.SENTINEL
    assert address.hosts == (("one", 26379), ("two", 5000), ("::1", 5001))
    assert (address.service, address.username, address.password, address.tls) == ("the-set", "me", "p@ss", True)


def test_a_cluster_is_some_of_its_nodes() -> None:
    address = RedisAddress.parse("redis+cluster://:secret@one:7000,two")
    assert address.topology is Topology.CLUSTER
    assert address.hosts == (("one", 7000), ("two", 6379))
    assert (address.username, address.password, address.tls) == (None, "secret", False)


@pytest.mark.parametrize("url", [
    "", "localhost", "http://host", "redis+magic://:secret@host", "unix+sentinel:///x",
    "redis+sentinel://:secret@host", "redis+sentinel://host/",
    "redis+cluster://:secret@host/0", "redis+cluster://", "redis+cluster://one,,two",
    "redis+cluster://:secret@host:port", "redis+cluster://host:70000",
])  # fmt: skip
def test_what_is_no_address_is_refused_and_never_repeated(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        RedisAddress.parse(url)
    assert "secret" not in str(caught.value)
