"""Token buckets: what they hold, and that a stranger's attempts are not the owner's problem."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.auth import throttle
from services.auth.address import networks
from services.auth.throttle import Limit, Limits, Throttle, has_emptied, key, left, take
from services.auth.verification import CODE_LIFETIME

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = Limit(3, timedelta(seconds=10))
KEY = b"somebody"
EMAIL = "ada@example.com"


class Buckets:
    """What the table does."""

    def __init__(self) -> None:
        self.full: dict[bytes, datetime] = {}
        self.now = NOW

    def tries(self, limits: Limits) -> timedelta | None:
        """Takes a try. None, or how long to wait."""
        taken = take(limits, self.full, self.now)
        if isinstance(taken, timedelta):
            return taken
        self.full.update(taken)
        return None

    def use_up(self, limits: Limits) -> int:
        """How many tries there are."""
        count = 0
        while self.tries(limits) is None:
            count += 1
        return count


def test_a_full_bucket_holds_its_burst_and_one_comes_back_after_each_interval() -> None:
    buckets = Buckets()
    assert buckets.use_up({KEY: LIMIT}) == 3
    buckets.now += timedelta(seconds=10)
    assert buckets.use_up({KEY: LIMIT}) == 1
    buckets.now += timedelta(seconds=25)
    assert buckets.use_up({KEY: LIMIT}) == 2
    buckets.now += timedelta(days=1)
    assert buckets.use_up({KEY: LIMIT}) == 3


def test_an_attempt_that_comes_too_early_hears_how_long_to_wait_and_costs_nothing() -> None:
    buckets = Buckets()
    buckets.use_up({KEY: LIMIT})
    buckets.now += timedelta(seconds=4)
    for _ in range(100):
        assert buckets.tries({KEY: LIMIT}) == timedelta(seconds=6)
    buckets.now += timedelta(seconds=6)
    assert buckets.tries({KEY: LIMIT}) is None


def test_an_attempt_takes_from_every_bucket_or_from_none() -> None:
    buckets = Buckets()
    buckets.use_up({KEY: LIMIT})
    assert buckets.tries({KEY: LIMIT, b"other": LIMIT}) == timedelta(seconds=10)
    assert buckets.use_up({b"other": LIMIT}) == 3


def test_a_bucket_says_how_much_is_left() -> None:
    full = NOW
    for expected in (2, 1, 0):
        taken = take({KEY: LIMIT}, {KEY: full}, NOW)
        assert isinstance(taken, dict)
        full = taken[KEY]
        assert left(full, LIMIT, NOW) == expected
        assert has_emptied(taken, {KEY: LIMIT}, NOW) is (expected == 0)
    assert left(full, LIMIT, NOW + timedelta(seconds=9)) == 0
    assert left(full, LIMIT, NOW + timedelta(seconds=10)) == 1
    assert left(full, LIMIT, NOW + timedelta(days=1)) == 3


def test_parts_of_a_key_do_not_run_into_each_other() -> None:
    assert key("sign_in", "ab", "c") != key("sign_in", "a", "bc") != key("sign_ina", "b", "c")


KINDS = {
    "sign_in": lambda networks: Throttle().sign_in(EMAIL, networks),
    "code": lambda networks: Throttle().code(EMAIL, networks),
    "resend": lambda networks: Throttle().resend(EMAIL, networks),
    "sign_up": lambda networks: Throttle().sign_up(networks),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("stranger", "owner"),
    [("203.0.113.7", "203.0.113.8"), ("2001:db8:1:2::1", "2001:db8:1:3::1"), ("2001:db8:1:2::1", "2001:db8:1:f002::1")],
)
def test_a_neighbour_uses_up_his_own_network_and_not_the_one_around_it(kind: str, stranger: str, owner: str) -> None:
    buckets = Buckets()
    assert buckets.use_up(KINDS[kind](networks(stranger))) > 1
    assert buckets.tries(KINDS[kind](networks(owner))) is None


@pytest.mark.parametrize("kind", ["sign_in", "code"])
@pytest.mark.parametrize(
    "hosts", [[f"203.0.113.{host}" for host in range(256)], [f"2001:db8:1:{host:x}::1" for host in range(256)]]
)
def test_a_whole_customers_network_does_not_slow_an_address_for_the_rest_of_the_world(
    kind: str, hosts: list[str]
) -> None:
    buckets = Buckets()
    for host in hosts:
        buckets.use_up(KINDS[kind](networks(host)))
    assert buckets.tries(KINDS[kind](networks("198.51.100.7"))) is None


def test_hosts_of_one_customer_share_what_is_theirs() -> None:
    buckets = Buckets()
    hosts = [networks(f"2001:db8:1:{host:x}::1") for host in range(256)]
    # All in one /56, which has twice what a /64 has.
    assert (
        sum(buckets.use_up(Throttle().sign_in(EMAIL, each)) for each in hosts) == 2 * throttle.SIGN_IN_BY_NETWORK.burst
    )


def test_a_known_installation_counts_under_nothing_that_anybody_else_counts_under() -> None:
    strangers: Mapping[bytes, Limit] = Throttle().sign_in(EMAIL, networks("203.0.113.7"))
    known = Throttle().known_sign_in(EMAIL, "8b1c8a8e-3c0b-4f1e-9c1b-0d6a3f2e4b5a")
    assert not set(strangers) & set(known)
    assert not set(known) & set(Throttle().known_sign_in("bob@example.com", "8b1c8a8e-3c0b-4f1e-9c1b-0d6a3f2e4b5a"))


def test_nothing_that_a_sign_up_counts_under_depends_on_the_address() -> None:
    """A stranger's sign-ups would be in the way of its owner's."""
    buckets = Buckets()
    for network in range(200):
        buckets.use_up(Throttle().sign_up(networks(f"10.{network}.0.1")))
    assert buckets.tries(Throttle().sign_up(networks("203.0.113.7"))) is None


def test_the_factor_is_for_what_one_network_does_to_all_addresses() -> None:
    everybody = networks("127.0.0.1")
    assert Buckets().use_up(Throttle(10).sign_up(everybody)) == 10 * throttle.MAIL_BY_NETWORK.burst
    assert Buckets().use_up(Throttle(10).sign_in(EMAIL, everybody)) == throttle.SIGN_IN_BY_NETWORK.burst


def test_docs_security_has_every_limit_with_its_numbers() -> None:
    table = (
        (Path(__file__).parents[4] / "docs" / "security.md")
        .read_text("utf-8")
        .partition("<!-- limits -->")[2]
        .partition("<!-- end -->")[0]
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    units = {"s": "seconds", "min": "minutes", "h": "hours"}
    written = {
        row[0].strip("`"): Limit(int(row[3]), timedelta(**{units[row[4].split()[1]]: int(row[4].split()[0])}))
        for row in rows
    }
    assert written == {name: value for name, value in vars(throttle).items() if isinstance(value, Limit)}


def test_when_an_address_was_mailed_enough_the_last_code_still_lives() -> None:
    assert throttle.CODES_BY_MAIL.interval < CODE_LIFETIME
