"""Access rules held against a call: who may call a method is stated in its proto, and decided here on every call.

Denies by default.
"""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from authmesh.options.v1 import access_pb2

from mesh.contract import Rpc
from mesh.errors import PermissionDenied, Reason, Unauthenticated, field_invalid
from mesh.rpc.call import GATEWAY, Call
from mesh.tokens.claims import Claims

DEFAULT_STALENESS_SECONDS = 30.0
"""How old the knowledge of revocations may be for a method that says nothing."""
EVERY_NODE = "*"
SECOND_FACTORS = frozenset({"otp", "hwk", "swk", "mfa"})
"""In `amr` (RFC 8176): the person has shown more than a password."""

_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_OF_USER = re.compile(rf"users/(me|{_UUID})(?:/.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TokenRule:
    """What a method demands of an access token (`authmesh.options.v1.Authenticated`)."""

    scopes: frozenset[str]
    roles: frozenset[str]
    max_staleness: float
    """Seconds."""
    recent_sign_in: float | None
    """Seconds, or None for no bound."""
    methods: frozenset[str]
    """Authentication methods (RFC 8176) of which one is demanded. Empty: none."""
    sender_bound: bool
    user_field: str
    """Path of the request field that names the user whom the method is about, or empty."""
    scopes_for_others: frozenset[str]
    """Takes the place of `scopes` when that user isn't the caller."""


class Policy:
    """Decides. Knows nothing of tokens but their claims."""

    def __init__(self, clock: Callable[[], float] = time.time, *, mfa_roles: frozenset[str] = frozenset()) -> None:
        """Initializes the instance.

        Args:
            clock: Unix seconds.
            mfa_roles: Roles that need a second factor.
        """
        self._clock = clock
        self._mfa_roles = mfa_roles
        self._rules: dict[str, TokenRule] = {}

    def token_rule(self, rpc: Rpc) -> TokenRule:
        """The demands of an authenticated method, read from its descriptor once."""
        rule = self._rules.get(rpc.path)
        if rule is None:
            rule = self._rules[rpc.path] = _token_rule(rpc.access.authenticated)
        return rule

    def admit_node(self, call: Call) -> None:
        """Admits the caller of an internal method by its mTLS identity.

        Raises:
            PermissionDenied: CALLER_NOT_ALLOWED.
        """
        allowed = call.rpc.access.internal.callers
        if call.caller and (call.caller in allowed or (EVERY_NODE in allowed and call.caller != GATEWAY)):
            return
        raise PermissionDenied(Reason.CALLER_NOT_ALLOWED, "this method is not for this caller")

    def admit_bearer(self, call: Call, claims: Claims) -> None:
        """Admits the bearer of a valid token with these claims.

        Raises:
            Unauthenticated: TOKEN_INVALID: the method wants a token that is bound to its sender.
            PermissionDenied: SCOPE_MISSING, ROLE_MISSING or STEP_UP_REQUIRED.
            InvalidArgument: FIELD_INVALID: the field that says whom it is about names no user.
        """
        rule = self.token_rule(call.rpc)
        if rule.sender_bound:
            # The verifier refuses `cnf`, so whatever arrives here is a plain bearer token.
            raise Unauthenticated(Reason.TOKEN_INVALID, "this method requires a token that is bound to its sender")
        roles = usable_roles(claims.roles, claims.amr, self._mfa_roles)
        if missing := self._demanded_scopes(rule, call, claims) - claims.scopes:
            if roles != claims.roles:
                raise _second_factor_missing(claims.roles - roles)
            raise PermissionDenied(Reason.SCOPE_MISSING, f"the token lacks the scope {' '.join(sorted(missing))}")
        if rule.roles and not rule.roles & roles:
            if rule.roles & claims.roles:
                raise _second_factor_missing(claims.roles - roles)
            raise PermissionDenied(
                Reason.ROLE_MISSING, f"the token has none of the roles {' '.join(sorted(rule.roles))}"
            )
        if rule.methods and rule.methods.isdisjoint(claims.amr):
            methods = " ".join(sorted(rule.methods))
            raise _step_up(f"this call needs a sign-in with one of the methods {methods}", rule)
        # Both in whole seconds, as the claim is: a sign-in of just now is not up to a second older than it is.
        if rule.recent_sign_in is not None and int(self._clock()) - claims.auth_time > rule.recent_sign_in:
            raise _step_up(f"this call needs a sign-in of the last {rule.recent_sign_in:.0f} s", rule)

    def _demanded_scopes(self, rule: TokenRule, call: Call, claims: Claims) -> frozenset[str]:
        if not rule.user_field:
            return rule.scopes
        value: object = call.request
        for name in rule.user_field.split("."):
            value = getattr(value, name)
        named = _OF_USER.fullmatch(value) if isinstance(value, str) else None
        if named is None:
            # Who lacks even the weaker demand learns that, not how to spell the field.
            if not (rule.scopes <= claims.scopes or rule.scopes_for_others <= claims.scopes):
                return rule.scopes
            raise field_invalid(rule.user_field, "must begin with users/{user}, a UUID or `me`")
        return rule.scopes if named[1] == "me" or named[1].lower() == claims.subject.lower() else rule.scopes_for_others


def usable_roles(roles: frozenset[str], amr: Iterable[str], mfa_roles: frozenset[str]) -> frozenset[str]:
    """The roles that count in a session: those that need a second factor only with one.

    Args:
        roles: The person's.
        amr: How the person signed in.
        mfa_roles: Roles that need a second factor.
    """
    return roles if not SECOND_FACTORS.isdisjoint(amr) else roles - mfa_roles


def _second_factor_missing(roles: frozenset[str]) -> PermissionDenied:
    return PermissionDenied(
        Reason.STEP_UP_REQUIRED,
        f"the role {' '.join(sorted(roles))} needs a second factor: set one up and sign in with it",
        facts={"methods": " ".join(sorted(SECOND_FACTORS))},
    )


def _step_up(problem: str, rule: TokenRule) -> PermissionDenied:
    facts = {"methods": " ".join(sorted(rule.methods))} if rule.methods else {}
    facts |= {} if rule.recent_sign_in is None else {"max_age": f"{rule.recent_sign_in:.0f}"}
    what_to_do = "call FinishReauthentication and refresh the token, or sign in again; the tokens stay good"
    return PermissionDenied(Reason.STEP_UP_REQUIRED, f"{problem}: {what_to_do}", facts=facts)


def _token_rule(rule: access_pb2.Authenticated) -> TokenRule:
    return TokenRule(
        scopes=frozenset(rule.scopes),
        roles=frozenset(rule.roles),
        max_staleness=rule.max_staleness.ToTimedelta().total_seconds()
        if rule.HasField("max_staleness")
        else DEFAULT_STALENESS_SECONDS,
        recent_sign_in=rule.recent_sign_in.ToTimedelta().total_seconds() if rule.HasField("recent_sign_in") else None,
        methods=frozenset(rule.methods),
        sender_bound=rule.sender_bound,
        user_field=rule.others.field if rule.HasField("others") else "",
        scopes_for_others=frozenset(rule.others.scopes),
    )
