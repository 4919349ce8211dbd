"""Administering clients.

Each change is one transaction with its audit event, and with the end of whatever may go on no longer.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mesh.errors import (
    AlreadyExists,
    FieldViolation,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Reason,
    field_invalid,
)
from mesh.outbox.work import UnitOfWork, Work
from mesh.resources.etag import require_etag
from mesh.tokens.denials import Denials
from mesh.tokens.verifier import MAX_LIFETIME_SECONDS
from services.token import events
from services.token.clients.client import CONTRACT_NAMES, Client, ClientId, ClientRecord
from services.token.clients.keys import client_keys
from services.token.clients.store import (
    add_client,
    delete_client,
    end_sessions_of_client,
    find_client,
    lock_client,
    page_of_clients,
    save_client,
)
from services.token.revocation.revoker import Revoker, next_not_before_of_client
from services.token.sessions.grants import RoleScopes

_CLIENT_ID: TypeAdapter[str] = TypeAdapter(ClientId)


class ClientAdmin:
    """Adds, changes and removes clients."""

    def __init__(
        self,
        work: Work,
        revoker: Revoker,
        denials: Denials,
        role_scopes: RoleScopes,
        *,
        longest_token: timedelta = timedelta(seconds=MAX_LIFETIME_SECONDS),
    ) -> None:
        """Initializes the instance.

        Args:
            work: Of Token.
            revoker: Refuses the tokens of a client that is shut out.
            denials: Takes refusals.
            role_scopes: Says which scopes are more than everyone's.
            longest_token: How long access tokens may live at the most: a signing key is kept no longer than that.
        """
        self._work = work
        self._revoker = revoker
        self._denials = denials
        self._longest_token = longest_token
        self._role_scopes = role_scopes

    async def create(self, client_id: str, values: Mapping[str, Any], caller_scopes: Collection[str]) -> ClientRecord:
        """Adds a client.

        Args:
            client_id: Its id.
            values: Fields of `Client`, by name; what is missing has its default.
            caller_scopes: Of the token that the administrator calls with.

        Raises:
            InvalidArgument: FIELD_INVALID.
            AlreadyExists: CLIENT_ALREADY_EXISTS.
            PermissionDenied: SCOPE_MISSING, the client would have more than the caller.
        """
        _check_id(client_id)
        client = self._validated(values)
        if missing := self._overreaches(client, caller_scopes):
            raise await self._denied(client_id, missing)
        async with self._work.begin() as tx:
            if not await add_client(tx, client_id, client, again=True):
                raise AlreadyExists(Reason.CLIENT_ALREADY_EXISTS, "there is a client of this id")
            tx.record(events.client_created(client_id, client))
            # From where it was written: an id that was used before goes on with its version.
            created = await find_client(tx, client_id)
        assert created is not None
        return created

    async def get(self, client_id: str) -> ClientRecord:
        """Reads a client.

        Raises:
            NotFound: CLIENT_NOT_FOUND.
        """
        return _existing(await find_client(self._work.database, client_id))

    async def page(self, after: str, limit: int) -> Sequence[ClientRecord]:
        """The clients by id, from behind `after`."""
        return await page_of_clients(self._work.database, after, limit)

    async def update(
        self, client_id: str, changes: Mapping[str, Any], etag: str, caller_scopes: Collection[str]
    ) -> ClientRecord:
        """Changes fields of a client. An update that changes nothing writes nothing.

        Args:
            client_id: Which one.
            changes: New values of fields of `Client`, by name.
            etag: Of the state that the change is about, or empty for any.
            caller_scopes: Of the token that the administrator calls with.

        Raises:
            NotFound: CLIENT_NOT_FOUND.
            Aborted: ETAG_MISMATCH.
            InvalidArgument: FIELD_INVALID.
            PermissionDenied: SCOPE_MISSING, the client would be given more than the caller has.
            ResourceExhausted: RATE_LIMITED, its tokens were revoked too often in a few seconds.
        """
        async with self._work.begin() as tx:
            known = _existing(await lock_client(tx, client_id))
            require_etag(known.etag, etag)
            client = self._validated({**dict(known.client), **changes})
            if client == known.client:
                return known
            if client.confidential != known.client.confidential:
                raise field_invalid("client.confidential", "is fixed when the client is made")
            missing = self._overreaches(client, caller_scopes) if _gives(known.client, client) else frozenset()
            if not missing:
                changed = replace(known, client=client, version=known.version + 1)
                return await self._cut_off(tx, known, changed)
        raise await self._denied(client_id, missing)

    async def delete(self, client_id: str, etag: str) -> None:
        """Removes a client, ends its sessions and refuses its tokens.

        Raises:
            NotFound: CLIENT_NOT_FOUND.
            Aborted: ETAG_MISMATCH.
            ResourceExhausted: RATE_LIMITED, its tokens were revoked too often in a few seconds.
        """
        async with self._work.begin() as tx:
            known = _existing(await lock_client(tx, client_id))
            require_etag(known.etag, etag)
            ended, issued = await end_sessions_of_client(tx, client_id, self._work.now())
            time = self._work.now()
            not_before = next_not_before_of_client(known.not_before, time, issued)
            await delete_client(tx, client_id, not_before, time)
            tx.record(events.client_deleted(client_id, ended))
            await self._revoker.revoke_client(tx, client_id, not_before, time)

    async def _cut_off(self, tx: UnitOfWork, known: ClientRecord, changed: ClientRecord) -> ClientRecord:
        """Writes the new state, and ends what it allows no longer."""
        before, after = known.client, changed.client
        shut_out = after.disabled and not before.disabled
        ended, issued = None, known.not_before
        if shut_out:
            ended, issued = await end_sessions_of_client(tx, known.id, self._work.now())
        # Tokens of its own were given for a key and with scopes that may be gone. The sessions of a public client get
        # new ones at their next refresh.
        revokes = shut_out or (after.confidential and _takes(before, after))
        tx.record(events.client_updated(known.id, before, after, ended=ended, tokens_are_revoked=revokes))
        if not revokes:
            await save_client(tx, changed)
            return changed
        time = self._work.now()
        changed = replace(changed, not_before=next_not_before_of_client(known.not_before, time, issued))
        await save_client(tx, changed)
        await self._revoker.revoke_client(tx, known.id, changed.not_before, time)
        return changed

    def _validated(self, values: Mapping[str, Any]) -> Client:
        client = validated(values)
        if timedelta(seconds=client.access_token_seconds) > self._longest_token:
            raise field_invalid(
                "client.access_token_lifetime",
                f"is {self._longest_token.total_seconds():g} s at the most in this deployment",
            )
        return client

    def _overreaches(self, client: Client, caller_scopes: Collection[str]) -> frozenset[str]:
        """Scopes because of which the caller can't make such a client.

        With a key of their own choice they could have its tokens.

        A scope that no role has is no one's: a service outside the mesh may go by it.
        """
        return client.scopes - self._role_scopes.default - set(caller_scopes) if client.confidential else frozenset()

    async def _denied(self, client_id: str, missing: Collection[str]) -> PermissionDenied:
        """The refusal of a client with these scopes. It is on record."""
        await self._denials.record(events.client_denied(client_id))
        lacking = " ".join(sorted(missing))[:100]
        message = f"a client can't get more scopes than its administrator has: the token lacks {lacking}"
        if unknown := set(missing) - self._role_scopes.known:
            message += f"; no role has {' '.join(sorted(unknown))[:100]}: add it to a role in the roles file first"
        return PermissionDenied(Reason.SCOPE_MISSING, message)


def validated(values: Mapping[str, Any]) -> Client:
    """A client with these fields.

    Raises:
        InvalidArgument: FIELD_INVALID, every field at fault named as the contract does. Values are not repeated.
    """
    try:
        return Client.model_validate(values)
    except ValidationError as error:
        violations = tuple(
            FieldViolation(_path(item["loc"]), item["msg"].removeprefix("Value error, "))
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        )
        summary = "; ".join(f"{item.field}: {item.description}" for item in violations[:3])
        raise InvalidArgument(Reason.FIELD_INVALID, summary, violations=violations) from None


def _path(place: tuple[int | str, ...]) -> str:
    # A rule about several fields has no place.
    return f"client.{CONTRACT_NAMES.get(str(place[0]), place[0])}" if place else "client"


def client_id_of(text: str) -> str:
    """The text, which is a client's id.

    Raises:
        ValueError: it is not one.
    """
    return _CLIENT_ID.validate_python(text)


def _check_id(client_id: str) -> None:
    try:
        _CLIENT_ID.validate_python(client_id)
    except ValidationError:
        raise field_invalid(
            "client.name",
            "must be 1 to 63 lower case letters, digits and hyphens, begin with a letter, and not be a UUID",
        ) from None


def _existing(found: ClientRecord | None) -> ClientRecord:
    if found is None:
        raise NotFound(Reason.CLIENT_NOT_FOUND, "the client does not exist")
    return found


def _gives(before: Client, after: Client) -> bool:
    """Whether a change lets someone have tokens that no one could have before."""
    known = client_keys(before.jwks).values()
    more_keys = any(key not in known for key in client_keys(after.jwks).values())
    return more_keys or bool(after.scopes - before.scopes) or (before.disabled and not after.disabled)


def _takes(before: Client, after: Client) -> bool:
    """Whether a change leaves tokens behind that no one could get any more."""
    kept = client_keys(after.jwks).values()
    return any(key not in kept for key in client_keys(before.jwks).values()) or bool(before.scopes - after.scopes)
