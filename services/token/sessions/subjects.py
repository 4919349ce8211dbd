"""What User decides about a person and Token has to follow: roles, status, and the end of everything."""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime

from mesh.audit import subject_keys
from mesh.errors import field_invalid
from mesh.outbox.work import UnitOfWork, Work
from mesh.resources.name import USER
from mesh.tokens.claims import is_name
from services.token import events
from services.token.revocation.revoker import AHEAD, Revoker, next_not_before
from services.token.sessions.grants import RoleScopes
from services.token.sessions.store import Store, Subject

LAST_VERSION = 2**63 - 1
"""Of a person who was deleted: no change comes after it."""


class SubjectSync:
    """Keeps the copies of roles and status, and revokes whole persons."""

    def __init__(self, work: Work, store: Store, revoker: Revoker, role_scopes: RoleScopes) -> None:
        """Initializes the instance.

        Args:
            work: Of Token.
            store: Keeps subjects and sessions.
            revoker: Refuses the tokens that were issued before.
            role_scopes: What a role may have.
        """
        self._work = work
        self._store = store
        self._revoker = revoker
        self._role_scopes = role_scopes

    async def set_grants(self, subject: uuid.UUID, roles: Collection[str], disabled: bool, version: int) -> None:
        """Takes over a person's roles and status. An older version than the known one changes nothing.

        New roles come with the next refresh, and the tokens that were issued before are refused. A disabled person's
        sessions end; so do those of a person whose roles change many times in a few seconds, with tokens issued in
        between.

        Raises:
            InvalidArgument: FIELD_INVALID `roles`: a name that no token can carry.
        """
        if not all(is_name(role) for role in roles):
            raise field_invalid("roles", "names of roles are printable ASCII without spaces")
        async with self._work.begin() as tx:
            known = await self._store.lock_subject(tx, subject)
            if version <= known.version:
                return
            changed = replace(known, roles=frozenset(roles), disabled=disabled, version=version)
            sessions = await self._store.lock_sessions(tx, subject)
            if changed.roles != known.roles or changed.disabled != known.disabled:
                tx.record(events.grants_changed(subject, changed.roles, disabled=disabled, version=version))
            if disabled:
                await self._end_everything(tx, changed, sessions, cause="disabled")
            elif changed.roles != known.roles:
                await self._change_roles(tx, changed, sessions)
            else:
                await self._store.save_subject(tx, changed)

    async def revoke(self, subject: uuid.UUID, request_id: uuid.UUID, *, keep: uuid.UUID | None = None) -> None:
        """Ends every session of a person and refuses every token issued up to now.

        A repeat with the same `request_id` changes nothing.

        Args:
            subject: Whose.
            request_id: Of the command.
            keep: A session that goes on, with its tokens.
        """
        async with self._work.begin() as tx:
            if not await self._store.begin_command(tx, request_id):
                return
            known = await self._store.lock_subject(tx, subject)
            sessions = await self._store.lock_sessions(tx, subject)
            if keep is None:
                await self._end_everything(tx, known, sessions, cause="revoked")
                return
            others = [session for session in sessions if session != keep]
            tx.record(events.subject_revoked(subject, "revoked", len(others)))
            await self._end_sessions(tx, known, others, self._work.now(), cause="revoked")

    async def delete(self, subject: uuid.UUID) -> None:
        """Ends everything of a person for good. A repeat changes nothing.

        What stays is an id that can have no session, whatever comes late of User.
        """
        async with self._work.begin() as tx:
            known = await self._store.lock_subject(tx, subject)
            if known.version < LAST_VERSION:
                sessions = await self._store.lock_sessions(tx, subject)
                gone = replace(known, roles=frozenset(), disabled=True, version=LAST_VERSION)
                await self._end_everything(tx, gone, sessions, cause="deleted")
            await subject_keys.erase(tx, USER.of(subject))

    async def _change_roles(self, tx: UnitOfWork, subject: Subject, sessions: Mapping[uuid.UUID, datetime]) -> None:
        time = self._work.now()
        not_before = next_not_before(subject.not_before, time, sessions.values())
        if not_before > time + AHEAD:
            await self._store.save_subject(tx, subject)
            await self._end_sessions(tx, subject, sessions, time, cause="roles_changed")
            return
        subject = replace(subject, not_before=not_before)
        await self._store.save_subject(tx, subject)
        await self._store.change_sessions(
            tx, sessions, subject.roles, self._role_scopes.allowed(subject.roles), not_before
        )
        await self._revoker.revoke_subject(tx, subject.id, not_before, time)

    async def _end_everything(
        self, tx: UnitOfWork, subject: Subject, sessions: Mapping[uuid.UUID, datetime], *, cause: str
    ) -> None:
        time = self._work.now()
        tx.record(events.subject_revoked(subject.id, cause, len(sessions)))
        not_before = next_not_before(subject.not_before, time, sessions.values())
        if not_before > time + AHEAD:
            await self._store.save_subject(tx, subject)
            await self._end_sessions(tx, subject, sessions, time, cause=cause)
            return
        await self._store.save_subject(tx, replace(subject, not_before=not_before))
        await self._store.end_sessions(tx, subject.id, sessions, time)
        await self._revoker.revoke_subject(tx, subject.id, not_before, time)

    async def _end_sessions(
        self, tx: UnitOfWork, subject: Subject, sessions: Collection[uuid.UUID], time: datetime, *, cause: str
    ) -> None:
        """Refuses tokens session by session, and leaves `not_before` where it is.

        For when it would be too far ahead: tokens were issued and refused so often in a few seconds, each a second
        behind the last, that the next ones would not be valid yet.
        """
        await self._revoker.end_sessions(tx, subject.id, sessions, time, events.revoked(cause))
