"""Roles and status: decided here, and carried to Token and Auth at once and until they have acknowledged it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from authmesh.auth.v1 import credential_directory_pb2
from authmesh.token.v1 import token_issuer_pb2
from google.protobuf.message import Message

from mesh.outbox.work import UnitOfWork, Work
from mesh.resources.etag import require_etag
from mesh.storage.database import Transaction
from services.user import events
from services.user import roles as rules
from services.user.profile import User, not_found
from services.user.store import Users

SET_SUBJECT_GRANTS = "/authmesh.token.v1.TokenIssuer/SetSubjectGrants"
SET_SUBJECT_STATUS = "/authmesh.auth.v1.CredentialDirectory/SetSubjectStatus"
RESET_MFA = "/authmesh.auth.v1.CredentialDirectory/ResetMfa"


@dataclass(frozen=True, slots=True)
class Command:
    """What another service is told."""

    method: str
    request: Message


class CommandPusher(Protocol):
    """Tells other services at once."""

    async def deliver(self, commands: Sequence[Command]) -> None:
        """Delivers commands, or gives up after a moment: the outbox has them too.

        Never raises for a service that can't be reached.
        """


class Administration:
    """What administrators do to users. A change, its event and its commands are one transaction."""

    def __init__(self, work: Work, courier: CommandPusher) -> None:
        self._work = work
        self._courier = courier
        self._users = Users()

    async def set_roles(self, user_id: uuid.UUID, roles: Sequence[str], etag: str) -> User:
        """Replaces the roles of a user.

        Raises:
            NotFound: USER_NOT_FOUND.
            InvalidArgument: FIELD_INVALID, for a role that doesn't exist.
            Aborted: ETAG_MISMATCH.
            FailedPrecondition: LAST_ADMINISTRATOR.
        """
        wanted = rules.known(roles)
        async with self._work.begin() as tx:
            administrators = await self._users.lock_administrators(tx)
            user = await self._locked(tx, user_id)
            require_etag(user.etag, etag)
            if wanted == user.roles:
                return user
            if rules.ADMIN not in wanted:
                rules.demand_administrator_left(administrators, user.id)
            user, commands = await self._change(tx, user, replace(user, roles=wanted))
        await self._courier.deliver(commands)
        return user

    async def grant(self, email: str, role: str) -> User:
        """Adds a role to the user with an address.

        For the operator; Token hears of it by the outbox of the running User process.

        Raises:
            NotFound: USER_NOT_FOUND.
            InvalidArgument: FIELD_INVALID, for a role that doesn't exist.
        """
        return await self._change_by_email(email, rules.known([role]), ())

    async def revoke(self, email: str, role: str) -> User:
        """Takes a role from the user with an address, as `grant` gives it.

        Also from the last administrator, for an operator can make another.

        Raises:
            NotFound: USER_NOT_FOUND.
            InvalidArgument: FIELD_INVALID, for a role that doesn't exist.
        """
        return await self._change_by_email(email, (), rules.known([role]))

    async def reset_mfa(self, email: str) -> User:
        """Removes the second factor of the user with an address.

        For the operator; Auth hears of it by the outbox of the running User process.

        Raises:
            NotFound: USER_NOT_FOUND.
        """
        async with self._work.begin() as tx:
            user = await self._users.by_email(tx, email.lower())
            if user is None:
                raise not_found()
            request = credential_directory_pb2.ResetMfaRequest(subject=str(user.id))
            request.before.FromDatetime(self._work.now())
            tx.command(RESET_MFA, request)
        return user

    async def holders(self) -> list[User]:
        """Who has a role, in the order of their sign-ups."""
        return await self._users.holders(self._work.database)

    async def set_disabled(self, user_id: uuid.UUID, *, disabled: bool) -> User:
        """Forbids sign-in and ends every session; or allows sign-in again.

        Raises:
            NotFound: USER_NOT_FOUND.
            FailedPrecondition: LAST_ADMINISTRATOR.
        """
        async with self._work.begin() as tx:
            administrators = await self._users.lock_administrators(tx)
            user = await self._locked(tx, user_id)
            if user.disabled is disabled:
                return user
            if disabled:
                rules.demand_administrator_left(administrators, user.id)
            user, commands = await self._change(tx, user, replace(user, disabled=disabled))
        await self._courier.deliver(commands)
        return user

    async def _change_by_email(self, email: str, added: Sequence[str], taken: Sequence[str]) -> User:
        async with self._work.begin() as tx:
            found = await self._users.by_email(tx, email.lower())
            if found is None:
                raise not_found()
            user = await self._locked(tx, found.id)
            wanted = tuple(sorted({*user.roles, *added} - {*taken}))
            if wanted == user.roles:
                return user
            user, commands = await self._change(tx, user, replace(user, roles=wanted))
        await self._courier.deliver(commands)
        return user

    async def _locked(self, tx: Transaction, user_id: uuid.UUID) -> User:
        user = await self._users.lock(tx, user_id)
        if user is None:
            raise not_found()
        return user

    async def _change(self, tx: UnitOfWork, before: User, wanted: User) -> tuple[User, list[Command]]:
        user = await self._users.save(tx, wanted, self._work.now())
        grants = token_issuer_pb2.SetSubjectGrantsRequest(
            subject=str(user.id), roles=user.roles, disabled=user.disabled, version=user.version
        )
        commands = [Command(SET_SUBJECT_GRANTS, grants)]
        if before.roles != user.roles:
            tx.record(events.roles_changed(before, user))
        else:
            tx.record(events.status_changed(user))
            status = credential_directory_pb2.SetSubjectStatusRequest(
                subject=str(user.id), disabled=user.disabled, version=user.version
            )
            commands.append(Command(SET_SUBJECT_STATUS, status))
        for command in commands:
            tx.command(command.method, command.request)
        return user, commands
