"""A model of refresh lineage against the real thing on a real PostgreSQL: hypothesis invents the histories, the model
says what each step must do.

The model is written from the rules of docs/design.md and shares no code with `services.token.sessions.lineage`.
"""

import asyncio
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mesh.errors import MeshError, Reason, Unavailable
from mesh.tokens.claims import Claims
from mesh.tokens.denials import EACH
from services.token.sessions.sign_in import Issued
from tests.integration.services.token.conftest import Token

PHONE, LAPTOP = uuid.UUID(int=1), uuid.UUID(int=2)
SCOPES = frozenset({"user:read", "resource:read"})
IDLE, ABSOLUTE = timedelta(days=14), timedelta(days=90)
ANSWERED = ("rotate", "same")
INVALID, REUSED, SCOPE = "REFRESH_INVALID", "REFRESH_REUSED", "SCOPE_MISSING"
Result = TypeVar("Result")


@dataclass
class Generation:
    """One refresh token of a line."""

    token: str
    expires: datetime
    grant: object
    """What was answered with it: whoever gets the token again gets the same."""
    spent_at: datetime | None = None
    unanswered: bool = False
    before_a_role_change: bool = False
    """Its access token is refused. A late repetition gets that very one, and the client refreshes once more."""
    replays: int = 0
    replayed_ancestors: int = 0


@dataclass
class Line:
    """A session, as the model has it."""

    id: uuid.UUID
    instance: uuid.UUID | None
    created: datetime
    generations: list[Generation]
    ended: bool = False
    access: list[tuple[Claims, bool]] = field(default_factory=list)
    """Access tokens with whether they are revoked."""

    @property
    def grace(self) -> timedelta:
        return timedelta(seconds=30 if self.instance else 10)

    def known(self, back: int) -> int:
        """The place of a token that somebody has, so many generations back."""
        newest = len(self.generations) - 1
        return max((newest if self.generations[newest].token else newest - 1) - back, 0)

    def end(self) -> None:
        self.ended = True
        self.kill_access()

    def kill_access(self) -> None:
        self.access = [(claims, True) for claims, _ in self.access]


class Lineage(RuleBasedStateMachine):
    """Sign-ins, refreshes of any token by anybody, races, outages of the key, sign-outs and role changes, in any
    order."""

    token: Token
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.subject = uuid.uuid4()
        self.lines: list[Line] = []
        self.version = 0
        self.admin = self.disabled = False
        self.key_is_out = False
        self.live = False
        """Whether the token that was sent last could have been spent by its owner."""
        self.refusals = 0
        self.expected_events: list[tuple[str, str, str]] = []

    def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        """Runs on the loop that the database lives in; the machine has a thread of its own."""
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(timeout=20)

    @initialize()
    def begin(self) -> None:
        self.run(self.token.database.execute("TRUNCATE outbox"))
        self.token.clock.__init__()  # type: ignore[misc] # from now on again
        self.token.clients["other"] = self.token.clients["demo"]
        sign = type(self.signer).sign

        async def fallible(signed: bytes) -> bytes:
            if self.key_is_out:
                raise Unavailable(Reason.KEYS_UNAVAILABLE, "test")
            return bytes(await sign(self.signer, signed))

        self.signer.sign = fallible
        self.sign_in(PHONE)

    @property
    def signer(self) -> Any:
        one_key: Any = self.token.refreshes._writer._keys
        return one_key.signer

    @property
    def now(self) -> datetime:
        return self.token.clock.now

    def expect(self, event: str, reason: str = "", detail: str = "") -> None:
        self.expected_events.append((event, reason, detail))

    @precondition(lambda self: len(self.lines) < 3 and not self.disabled and not self.key_is_out)
    @rule(instance=st.sampled_from([PHONE, None]))
    def sign_in(self, instance: uuid.UUID | None) -> None:
        issued = self.run(self.token.sign_in(self.subject, instance=instance, scopes=SCOPES))
        grant = issued.grant
        created = grant.issue_time
        generation = Generation(issued.refresh_token, created + IDLE, grant)
        self.lines.append(
            Line(grant.session_id, instance, created, [generation], access=[(self.token.claims(issued), False)])
        )
        self.expect("token.issued")

    @rule(seconds=st.sampled_from([1, 1, 3, 3, 12, 31, 600]))
    def time_passes(self, seconds: int) -> None:
        self.token.clock.pass_by(seconds=seconds)

    @rule(days=st.sampled_from([0, 0, 0, 9, 15, 40]))
    def much_time_passes(self, days: int) -> None:
        self.token.clock.pass_by(days=days)

    @rule()
    def the_key_goes_out_of_reach(self) -> None:
        self.key_is_out = True

    @precondition(lambda self: self.key_is_out)
    @rule()
    def the_key_is_back(self) -> None:
        self.key_is_out = False

    @rule(
        which=st.integers(0, 2),
        back=st.sampled_from([0, 0, 0, 1, 1, 1, 2, 5]),
        who=st.sampled_from(["owner"] * 5 + ["other instance", "other client"]),
        scopes=st.sampled_from(
            [frozenset(), frozenset(), frozenset({"user:read"}), frozenset({"user:write"}), frozenset({"nonsense"})]
        ),
    )
    def refresh(self, which: int, back: int, who: str, scopes: frozenset[str]) -> None:
        line = self.lines[which % len(self.lines)]
        place = line.known(back)
        instance = line.instance if who != "other instance" else LAPTOP
        client = "other" if who == "other client" else "demo"
        outcome = self._outcome(line, place, client, instance, scopes)
        self._check(line, place, outcome, self._ask(line.generations[place].token, client, instance, scopes))

    @rule(which=st.integers(0, 2), back=st.sampled_from([0, 0, 1]), callers=st.integers(2, 6))
    def race(self, which: int, back: int, callers: int) -> None:
        line = self.lines[which % len(self.lines)]
        place = line.known(back)
        first = self._outcome(line, place, "demo", line.instance, frozenset())
        # Who comes after a rotation finds a race; the database decides who that is.
        outcomes = [first]
        # And whoever comes at the moment in which a family ends may hear either of two reasons: nobody does here.
        # Nor where the key fails a repetition, from when on further ones are not counted: who comes after it is open.
        alone = first == "same" and self.key_is_out
        while not alone and len(outcomes) < callers and outcomes[-1] != REUSED:
            outcomes.append(
                "same" if first == "rotate" else self._outcome(line, place, "demo", line.instance, frozenset())
            )
        token = line.generations[place].token

        async def at_once() -> list[Issued | MeshError]:
            return await asyncio.gather(*(self._answer(token, "demo", line.instance, frozenset()) for _ in outcomes))

        answers = self.run(at_once())
        # In which order they are served is open, what they are served is not.
        given = [answer for answer in answers if isinstance(answer, Issued)]
        refused = [str(answer.reason) for answer in answers if isinstance(answer, MeshError)]
        due = ["KEYS_UNAVAILABLE" if self.key_is_out and outcome in ANSWERED else outcome for outcome in outcomes]
        assert sorted(refused) == sorted(outcome for outcome in due if outcome not in ANSWERED)
        assert len(given) == sum(outcome in ANSWERED for outcome in due)
        if first == "rotate":
            self._rotated(line, given[0] if given else None)
        if "KEYS_UNAVAILABLE" in due:
            line.generations[place].unanswered = True
        for answer in given:
            self._answered(line, place, answer)

    def _outcome(self, line: Line, place: int, client: str, instance: uuid.UUID | None, scopes: frozenset[str]) -> str:
        """`rotate`, `same`, or the reason of the refusal. Moves the model on, but for the rotation itself."""
        generation, last = line.generations[place], place == len(line.generations) - 1
        self.live = last and not line.ended and self.now < min(line.created + ABSOLUTE, generation.expires)
        if client != "demo":
            return self._refused(INVALID, "other_client")
        if line.instance is not None and instance != line.instance:
            return self._refused(INVALID, "other_instance")
        if line.ended or self.now >= line.created + ABSOLUTE:
            return self._refused(INVALID, "session_over")
        if last and self.now >= generation.expires:
            return self._refused(INVALID, "expired")
        wrong_scopes = not scopes <= SCOPES
        if last:
            return self._refused(SCOPE, "scope_missing") if wrong_scopes else "rotate"
        assert generation.spent_at is not None
        age = self.now - generation.spent_at
        if place != len(line.generations) - 2 or (age > line.grace and not generation.unanswered):
            return self._reuse(line)
        if wrong_scopes:
            return self._refused(SCOPE, "scope_missing")
        if age <= timedelta(seconds=2) or generation.unanswered:
            return "same"
        if generation.replays >= 3 or generation.replayed_ancestors >= 2:
            return self._reuse(line)
        generation.replays += 1
        line.generations[-1].replayed_ancestors = generation.replayed_ancestors + 1
        self.expect("token.grace_replay")
        return "same"

    def _refused(self, reason: str, verdict: str) -> str:
        # A dead token leaves no event, and of a good one there is a bound.
        if self.live and self.refusals < EACH:
            self.refusals += 1
            self.expect("token.refresh_refused", reason, verdict)
        return reason

    def _reuse(self, line: Line) -> str:
        line.end()
        self.expect("token.reuse_detected", REUSED)
        return REUSED

    async def _answer(
        self, token: str, client: str, instance: uuid.UUID | None, scopes: frozenset[str]
    ) -> Issued | MeshError:
        try:
            return await self.token.refresh(token, instance=instance, client=client, scopes=scopes)
        except MeshError as error:
            return error

    def _ask(self, token: str, client: str, instance: uuid.UUID | None, scopes: frozenset[str]) -> Issued | MeshError:
        return self.run(self._answer(token, client, instance, scopes))

    def _check(self, line: Line, place: int, outcome: str, answer: Issued | MeshError) -> None:
        if outcome in ("rotate", "same") and self.key_is_out:
            assert isinstance(answer, MeshError)
            assert answer.reason == Reason.KEYS_UNAVAILABLE
            if outcome == "rotate":
                self._rotated(line, None)
            else:
                line.generations[place].unanswered = True
        elif outcome in ("rotate", "same"):
            assert isinstance(answer, Issued), answer
            if outcome == "rotate":
                self._rotated(line, answer)
            self._answered(line, place, answer)
        else:
            assert isinstance(answer, MeshError)
            assert answer.reason == outcome

    def _rotated(self, line: Line, answer: Issued | None) -> None:
        generation = line.generations[-1]
        generation.spent_at = self.now
        generation.unanswered = answer is None
        expires = min(self.now.replace(microsecond=0) + IDLE, line.created + ABSOLUTE)
        line.generations.append(
            Generation(answer.refresh_token if answer else "", expires, answer.grant if answer else None)
        )
        self.expect("token.refreshed")

    def _answered(self, line: Line, place: int, answer: Issued) -> None:
        """The successor is the same for everybody, for ever."""
        generation, successor = line.generations[place], line.generations[place + 1]
        successor.token, successor.grant = successor.token or answer.refresh_token, successor.grant or answer.grant
        assert (answer.refresh_token, answer.grant) == (successor.token, successor.grant)
        assert (answer.grant.session_id, answer.grant.refresh_expire_time) == (line.id, successor.expires)
        if generation.unanswered:
            generation.unanswered, generation.spent_at = False, self.now
        # An answer that the key held up for long says the times of its rotation: the client refreshes once more.
        if answer.grant.expire_time > self.now:
            line.access.append((self.token.claims(answer), successor.before_a_role_change or line.ended))

    @rule(which=st.integers(0, 2), back=st.integers(0, 3))
    def sign_out(self, which: int, back: int) -> None:
        line = self.lines[which % len(self.lines)]
        self.run(self.token.sign_outs.revoke_token(line.generations[line.known(back)].token))
        if not line.ended:
            self.expect("token.revoked", "", "sign_out")
            line.end()

    @precondition(lambda self: self.now - self.lines[0].created > timedelta(minutes=10))
    @rule()
    def disable(self) -> None:
        self._set_grants(disabled=True)
        self.expect("token.subject_revoked", "", "disabled")
        for line in self.lines:
            line.end()

    @precondition(lambda self: self.disabled)
    @rule()
    def enable(self) -> None:
        self._set_grants(disabled=False)

    @precondition(lambda self: not self.disabled)
    @rule()
    def change_roles(self) -> None:
        self.admin = not self.admin
        self._set_grants(disabled=False, changed=True)
        for line in self.lines:
            line.kill_access()
            for generation in line.generations:
                generation.before_a_role_change = True

    def _set_grants(self, *, disabled: bool, changed: bool = False) -> None:
        self.version += 1
        self.run(
            self.token.subjects.set_grants(
                self.subject, ["admin"] * self.admin, disabled=disabled, version=self.version
            )
        )
        if changed or disabled != self.disabled:
            self.expect("token.grants_changed")
        self.disabled = disabled

    @invariant()
    def one_line_without_siblings(self) -> None:
        rows = self.run(
            self.token.database.fetch(
                "SELECT session_id, hash, successor, rotate_time FROM refresh_tokens WHERE "
                "session_id = ANY($1::uuid[])",
                [line.id for line in self.lines],
            )
        )
        for line in self.lines:
            own = [row for row in rows if row["session_id"] == line.id]
            assert len(own) == len(line.generations)
            assert sum(row["rotate_time"] is None for row in own) == 1
            successors = [row["successor"] for row in own if row["successor"]]
            assert len(set(successors)) == len(successors) == len(own) - 1
            assert set(successors) <= {row["hash"] for row in own}

    @invariant()
    def the_trail_tells_what_happened(self) -> None:
        events = self.run(self.token.events())
        told = [(event.type, event.reason, event.detail["verdict"] or event.detail["cause"]) for event in events]
        assert told == self.expected_events
        for event in events:
            assert event.subject == f"users/{self.subject}"

    @invariant()
    def dead_tokens_are_refused_and_no_others(self) -> None:
        self.run(self.token.learn_revocations())
        for line in self.lines:
            for claims, revoked in line.access:
                if claims.expires_at > self.now.timestamp():
                    assert self.token.revocations.refuses(claims) is revoked


async def test_whatever_happens_a_session_has_one_line_and_every_step_its_outcome(token: Token) -> None:
    Lineage.token, Lineage.loop = token, asyncio.get_running_loop()
    checked = settings(max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
    await asyncio.to_thread(run_state_machine_as_test, Lineage, settings=checked)
