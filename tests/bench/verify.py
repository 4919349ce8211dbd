"""What it costs to know that a token is good."""

import time
from collections.abc import Callable

from mesh.rpc.limits import Limits
from mesh.tokens.authentication import Authentication
from mesh.tokens.feed import RevocationFeed
from mesh.tokens.keys import KeySet
from mesh.tokens.policy import Policy
from mesh.tokens.revocations import RevocationSet
from mesh.tokens.verifier import Verifier
from tests.bench.report import Samples, Table
from tests.kit.snapshots import nothing_revoked
from tests.kit.tokens import AUDIENCE, ISSUER, Mint

TOKENS = 300


async def measure(seconds: float, rounds: int) -> Table:
    """Cold, remembered, and the bare signature check."""
    mint = Mint()
    keys = KeySet(mint.jwks)
    await keys.refresh()
    revocations = RevocationSet()

    feed = RevocationFeed("unix:///nowhere", nothing_revoked, revocations)
    verifier = Verifier(keys, ISSUER, AUDIENCE)
    authentication = Authentication(verifier, keys, revocations, feed, Policy(), Limits(200))
    tokens = [mint.token(jti=f"t{number}") for number in range(TOKENS)]
    signed = [
        (token.rpartition(".")[0].encode(), mint.raw_signature(token.rpartition(".")[0].encode())) for token in tokens
    ]
    key = keys.find(mint.key_id)
    assert key is not None

    def bare() -> None:
        for message, signature in signed:
            assert key.verifies(message, signature)

    def cold() -> None:
        for token in tokens:
            verifier.verify(token)

    def remembered() -> None:
        for token in tokens:
            authentication._verify(token)

    remembered()
    ways: dict[str, Callable[[], None]] = {
        "bare signature (OpenSSL, PyJWT's DER)": bare,
        "cold": cold,
        "remembered": remembered,
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            done, started = 0, time.perf_counter()
            while time.perf_counter() - started < seconds / 4:
                way()
                done += TOKENS
            found[name].append(1e6 * (time.perf_counter() - started) / done)
    rows = [(name, Samples(values)) for name, values in found.items()]
    return Table("verify", "Verifying an access token (ES256), one core", ("", "us a token"), rows, (
        ("Remembered: SHA-256 of the token, its expiry, its key and the five revocation sets. Cold: "
        "everything that `mesh.tokens.verifier` does."),
    ))  # fmt: skip
