"""Who waits longest and who is shed is decided by what the networks have had, not by who comes first or most."""

import pytest

from services.auth.address import networks
from services.auth.fair_queue import FairQueue


def put(queue: FairQueue[str], address: str, count: int = 1, name: str = "", *, now: float = 0) -> None:
    for number in range(count):
        queue.put(f"{address} {name} {number}", networks(address), now)


def who(item: str) -> str:
    address, name, _ = item.split(" ")
    return name or address


def served(queue: FairQueue[str], count: int, now: float = 0) -> list[str]:
    return [who(queue.take(now)) for _ in range(count)]


def shed(queue: FairQueue[str], room: int, now: float = 0) -> list[str]:
    return [who(queue.shed(now)) for _ in range(len(queue) - room)]


def test_one_network_is_served_in_order() -> None:
    queue: FairQueue[str] = FairQueue()
    put(queue, "203.0.113.7", 3)
    assert [queue.take(0) for _ in range(3)] == ["203.0.113.7  0", "203.0.113.7  1", "203.0.113.7  2"]
    with pytest.raises(IndexError):
        queue.take(0)
    with pytest.raises(IndexError):
        queue.shed(0)


def test_networks_take_turns_whoever_asks_for_more() -> None:
    queue: FairQueue[str] = FairQueue()
    put(queue, "203.0.113.7", 50)
    put(queue, "198.51.100.7", 2)
    assert served(queue, 4) == ["198.51.100.7", "203.0.113.7"] * 2


def test_somebody_new_comes_next_however_many_networks_ask() -> None:
    queue: FairQueue[str] = FairQueue()
    greedy = [f"10.{network}.0.1" for network in range(240)]
    for address in greedy:
        put(queue, address, 2)
    served(queue, 240)
    put(queue, "203.0.113.7")
    assert served(queue, 1) == ["203.0.113.7"]


@pytest.mark.parametrize(
    ("attackers", "owner"),
    [
        ([f"203.0.113.{host}" for host in range(200)], "203.0.114.7"),
        ([f"2001:db8:1:{network:x}::1" for network in range(240)], "2001:db8:1:ff00::1"),
        ([f"2001:db8:1:{network:x}::1" for network in range(0, 65536, 256)], "2001:db8:2::1"),
    ],
    ids=["a /24 of hosts", "a /56 of networks", "a /48 of /56s"],
)
def test_all_hosts_of_a_network_have_one_share(attackers: list[str], owner: str) -> None:
    queue: FairQueue[str] = FairQueue()
    for address in attackers:
        put(queue, address, 2, "attacker")
    put(queue, owner, 20, "owner")
    order = served(queue, 40)
    assert order.count("owner") == 20


def test_who_asks_for_most_is_shed_first_and_the_newest_of_it() -> None:
    queue: FairQueue[str] = FairQueue()
    put(queue, "203.0.113.7", 10)
    for network in range(5):
        put(queue, f"10.{network}.0.1")
    assert queue.shed(0) == "203.0.113.7  9"
    assert shed(queue, 6) == ["203.0.113.7"] * 8
    assert sorted(served(queue, 6)) == [*(f"10.{network}.0.1" for network in range(5)), "203.0.113.7"]


def test_many_hosts_of_one_network_are_shed_before_one_of_another() -> None:
    queue: FairQueue[str] = FairQueue()
    for host in range(100):
        put(queue, f"203.0.113.{host}", name="attacker")
    put(queue, "198.51.100.7", 2, "owner")
    assert shed(queue, 4) == ["attacker"] * 98


def test_among_networks_that_ask_alike_the_one_that_had_most_is_shed() -> None:
    """Each below its limit: somebody new finds room all the same."""
    queue: FairQueue[str] = FairQueue()
    greedy = [f"10.{network}.0.1" for network in range(100)]
    for address in greedy:
        put(queue, address)
    served(queue, 100)
    for address in greedy:
        put(queue, address)
    put(queue, "203.0.113.7")
    (victim,) = shed(queue, 100)
    assert victim != "203.0.113.7"
    assert served(queue, 1) == ["203.0.113.7"]


def test_among_networks_that_had_nothing_yet_the_one_that_keeps_asking_is_shed() -> None:
    """240 networks come at once, and there is room for 20: who comes then is not the one too many."""
    queue: FairQueue[str] = FairQueue()
    for _ in range(2):
        for network in range(240):
            put(queue, f"10.0.{network}.1", name=f"attacker{_}")
        shed(queue, 20)
    put(queue, "203.0.113.7")
    (victim,) = shed(queue, 20)
    assert victim.startswith("attacker")
    assert served(queue, 1) == ["203.0.113.7"]


def test_of_equals_the_last_comer_is_shed() -> None:
    queue: FairQueue[str] = FairQueue()
    for network in range(3):
        put(queue, f"10.{network}.0.1")
    assert shed(queue, 2) == ["10.2.0.1"]


def test_what_a_network_had_is_forgotten_in_time() -> None:
    queue: FairQueue[str] = FairQueue(half_life=60)
    put(queue, "203.0.113.7", 8)
    served(queue, 8)
    put(queue, "198.51.100.7", 1)
    served(queue, 1)
    put(queue, "203.0.113.7", now=300)
    put(queue, "198.51.100.7", 2, now=300)
    # After five minutes 8 count as a quarter, and one that was served now as one.
    assert served(queue, 3, now=300) == ["198.51.100.7", "203.0.113.7", "198.51.100.7"]


def test_who_leaves_leaves_nothing_behind() -> None:
    queue: FairQueue[str] = FairQueue()
    put(queue, "203.0.113.7", 2)
    queue.discard("203.0.113.7  0")
    queue.discard("203.0.113.7  0")
    assert len(queue) == 1
    assert queue.take(0) == "203.0.113.7  1"
    assert not queue


@pytest.mark.parametrize(("remembered", "first"), [(1000, "new"), (10, "forgotten")])
def test_what_is_remembered_is_bounded(remembered: int, first: str) -> None:
    queue: FairQueue[str] = FairQueue(remembered=remembered)
    put(queue, "203.0.113.7", 5)
    served(queue, 5)
    for network in range(20):
        put(queue, f"10.{network}.0.1")
    served(queue, 20)
    put(queue, "203.0.113.7", 1, "forgotten")
    put(queue, "198.51.100.7", 1, "new")
    assert served(queue, 1) == [first]


def test_callers_without_an_address_share_one_share() -> None:
    queue: FairQueue[str] = FairQueue()
    put(queue, "", 10, "nobody")
    put(queue, "203.0.113.7", 2, "somebody")
    assert served(queue, 4).count("somebody") == 2
