"""The times of a key's life: the defaults are safe, and what is not is refused with the variable's name."""

from datetime import timedelta

import pytest

from services.token.keys.schedule import MAX_VIEW_AGE, KeyPolicy, KeyPolicyUnsafeError


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def test_the_defaults_are_safe_for_istio_and_a_key_stays_until_its_last_token_has_expired() -> None:
    policy = KeyPolicy()
    assert policy.jwks_max_cache == timedelta(minutes=20)
    assert policy.lead > policy.jwks_max_cache
    assert policy.retention == timedelta(hours=1, minutes=1) + MAX_VIEW_AGE
    assert KeyPolicy(jwks_max_cache=timedelta(hours=2), lead=timedelta(hours=3)).pace.lead == timedelta(hours=3)


@pytest.mark.parametrize(("changes", "variable"), [
    ({"jwks_max_cache": seconds(0)}, "JWKS_MAX_CACHE_SECONDS"),
    ({"lead": seconds(1200)}, "SIGNING_LEAD_SECONDS=1200 is unsafe"),
    ({"lead": timedelta()}, "SIGNING_LEAD_SECONDS=0 is unsafe"),
    ({"jwks_max_cache": timedelta(hours=2)}, "set 7205 or more"),
    ({"period": timedelta(minutes=10)}, "SIGNING_ROTATION_SECONDS=600 is unsafe"),
    ({"skew": seconds(59)}, "CLOCK_SKEW_SECONDS=59 is unsafe"),
    ({"token_lifetime": seconds(3601)}, "ACCESS_TOKEN_MAX_SECONDS=3601"),
    ({"token_lifetime": seconds(0)}, "ACCESS_TOKEN_MAX_SECONDS=0"),
    ({"jwks_max_cache": timedelta(days=8), "lead": timedelta(days=9)}, "JWKS_MAX_CACHE_SECONDS=691200 is unsafe"),
])  # fmt: skip
def test_unsafe_times_are_refused(changes: dict[str, timedelta], variable: str) -> None:
    with pytest.raises(KeyPolicyUnsafeError, match=variable):
        KeyPolicy(**changes)


def test_verifiers_and_clients_that_break_the_policy_are_refused() -> None:
    policy = KeyPolicy(token_lifetime=seconds(600))
    policy.check_verifier(policy.jwks_max_cache)
    policy.check_client("demo", seconds(600))
    with pytest.raises(KeyPolicyUnsafeError, match="JWKS_CACHE_SECONDS"):
        policy.check_verifier(policy.jwks_max_cache + seconds(1))
    with pytest.raises(KeyPolicyUnsafeError, match="the client demo"):
        policy.check_client("demo", seconds(601))
