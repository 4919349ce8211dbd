"""Every time in a signing key's life, from one object. Unsafe values are refused when the process starts."""

from dataclasses import dataclass
from datetime import timedelta

from mesh.tokens.verifier import LEEWAY_SECONDS, MAX_LIFETIME_SECONDS

MAX_VIEW_AGE = timedelta(seconds=5)
"""How old a replica's view of the keys may be when it signs. By that much longer than decided may a retired key
sign."""
REVOCATION_KEPT = timedelta(days=7)
"""How long processes remember a revoked key. Longer than a token lives: with a stolen key someone signs new ones,
until it is in no one's JWKS."""


class KeyPolicyUnsafeError(ValueError):
    """These times would refuse good tokens, or admit bad ones. The message names the variables."""


@dataclass(frozen=True, slots=True)
class RotationSchedule:
    """What decides when a key takes over."""

    lead: timedelta
    """How long it is in the JWKS first."""
    period: timedelta
    """How long the one before signs, unless someone orders otherwise."""


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """A key is published, signs, retires and is gone.

    published --lead or longer--> active --period--> retiring --token lifetime + skew--> gone

    The next key is always in the JWKS already, so that one can take over at once when the active one is revoked.
    """

    jwks_max_cache: timedelta = timedelta(minutes=20)
    """The longest that anyone who verifies our tokens keeps a JWKS (Envoy 10 min, Istio 20 min, API Gateway up to 2
    h). JWKS_MAX_CACHE_SECONDS."""
    lead: timedelta = timedelta(minutes=30)
    """How long a key is in the JWKS before it signs. SIGNING_LEAD_SECONDS."""
    period: timedelta = timedelta(days=30)
    """How long a key signs. SIGNING_ROTATION_SECONDS."""
    token_lifetime: timedelta = timedelta(seconds=MAX_LIFETIME_SECONDS)
    """The longest that a token lives, whichever client's. ACCESS_TOKEN_MAX_SECONDS."""
    skew: timedelta = timedelta(seconds=LEEWAY_SECONDS)
    """How far clocks may differ: verifiers take a token for that long after its expiry. CLOCK_SKEW_SECONDS."""

    def __post_init__(self) -> None:
        """Checks that the policy is safe.

        Raises:
            KeyPolicyUnsafeError: a key would sign before every verifier has seen it, or be gone before its last
                token is.
        """
        if self.jwks_max_cache <= timedelta():
            raise KeyPolicyUnsafeError("JWKS_MAX_CACHE_SECONDS must be more than 0")
        if self.lead < self.jwks_max_cache + MAX_VIEW_AGE:
            raise KeyPolicyUnsafeError(
                f"SIGNING_LEAD_SECONDS={_seconds(self.lead)} is unsafe: a verifier that keeps the "
                f"JWKS for {_seconds(self.jwks_max_cache)} s "
                f"(JWKS_MAX_CACHE_SECONDS) would not know the new key; set "
                f"{_seconds(self.jwks_max_cache + MAX_VIEW_AGE)} or more"
            )
        if self.period < self.lead:
            raise KeyPolicyUnsafeError(
                f"SIGNING_ROTATION_SECONDS={_seconds(self.period)} is unsafe: the next key is in "
                f"the JWKS for {_seconds(self.lead)} s first "
                "(SIGNING_LEAD_SECONDS)"
            )
        if self.skew < timedelta(seconds=LEEWAY_SECONDS):
            raise KeyPolicyUnsafeError(
                f"CLOCK_SKEW_SECONDS={_seconds(self.skew)} is unsafe: verifiers take a token for "
                f"{LEEWAY_SECONDS} s after its expiry"
            )
        if not timedelta() < self.token_lifetime <= timedelta(seconds=MAX_LIFETIME_SECONDS):
            raise KeyPolicyUnsafeError(
                f"ACCESS_TOKEN_MAX_SECONDS={_seconds(self.token_lifetime)} must be 1 to "
                f"{MAX_LIFETIME_SECONDS}: verifiers refuse what lives longer"
            )
        if self.jwks_max_cache > REVOCATION_KEPT:
            raise KeyPolicyUnsafeError(
                f"JWKS_MAX_CACHE_SECONDS={_seconds(self.jwks_max_cache)} is unsafe: a revoked key "
                f"is remembered for {_seconds(REVOCATION_KEPT)} s"
            )

    @property
    def pace(self) -> RotationSchedule:
        """What decides when a key takes over."""
        return RotationSchedule(self.lead, self.period)

    @property
    def retention(self) -> timedelta:
        """How long a key stays in the JWKS when it has stopped signing."""
        return self.token_lifetime + self.skew + MAX_VIEW_AGE

    def check_verifier(self, jwks_cache: timedelta) -> None:
        """Refuses verifiers of our own that keep the JWKS longer than the policy believes.

        Args:
            jwks_cache: How long they do.

        Raises:
            KeyPolicyUnsafeError: so it is.
        """
        if jwks_cache > self.jwks_max_cache:
            raise KeyPolicyUnsafeError(
                f"JWKS_MAX_CACHE_SECONDS={_seconds(self.jwks_max_cache)} is unsafe: this mesh's own "
                f"processes keep the JWKS for "
                f"{_seconds(jwks_cache)} s (JWKS_CACHE_SECONDS)"
            )

    def check_client(self, client_id: str, access_token_lifetime: timedelta) -> None:
        """Refuses a client whose tokens may live longer than the policy believes.

        Args:
            client_id: Whose.
            access_token_lifetime: Of its tokens.

        Raises:
            KeyPolicyUnsafeError: so it is.
        """
        if access_token_lifetime > self.token_lifetime:
            raise KeyPolicyUnsafeError(
                f"ACCESS_TOKEN_MAX_SECONDS={_seconds(self.token_lifetime)} is unsafe: tokens of the "
                f"client {client_id} live for "
                f"{_seconds(access_token_lifetime)} s, and would outlive their key"
            )


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g}"
