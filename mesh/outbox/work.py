"""Units of work: a change of a service's own rows, and what must leave the service because of it, in one transaction.

    async with self._work.begin() as tx:
        await self._accounts.add(tx, account)
        tx.record(events.email_verified(account))
        tx.command(CREATE_USER, request)

What is recorded is written together, in one statement, before the commit; the relay is woken after it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import NoReturn

from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from authmesh.mail.v1.message_pb2 import Message
from google.protobuf import json_format
from google.protobuf.message import Message as AnyMessage

from mesh.outbox.outbox import NewEntry, Outbox
from mesh.storage.database import Database, Transaction


def _utc_now() -> datetime:
    return datetime.now(UTC)


class UnitOfWork(Transaction):
    """An open transaction that also takes what must leave the service. Made by `Work.begin`."""

    def __init__(self, transaction: Transaction, outbox: Outbox) -> None:
        super().__init__(transaction._connection)  # noqa: SLF001 - of its own class
        self.after_commit = transaction.after_commit
        self._outbox = outbox
        self._entries: list[NewEntry] = []
        self.afterwards: dict[object, Callable[[], Awaitable[None]]] = {}
        """Awaited when the commit is durable and the connection is free, before the block ends. By owner: a later one
        takes the place of its earlier one."""
        self.refusal: Exception | None = None
        """What `refuse` was given."""

    def record(self, event: AuditEvent) -> None:
        """Writes an audit event. It is completed by what the current call says (`Outbox.event`).

        Raises:
            ValueError: the type is not in the catalogue.
        """
        self._entries.append(("audit", event.type, self._outbox.event(event).SerializeToString(deterministic=True)))

    def message(
        self,
        *,
        email: str,
        kind: str,
        code: str = "",
        display_name: str = "",
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """Writes a message to a person.

        Args:
            email: To whom.
            kind: Names the letter (`services/mail/letters`): `verify_email`.
            code: A one-time code, or empty.
            display_name: Of the person, or empty.
            facts: What the letter says beside the code, by name: `device`.
        """
        message = Message(email=email, kind=kind, code=code, display_name=display_name, facts=facts)
        message.sent_time.GetCurrentTime()
        text = json_format.MessageToJson(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
        )
        self._entries.append(("message", kind, text.encode()))

    def command(self, method: str, request: AnyMessage) -> None:
        """Writes a command to another service.

        Args:
            method: The path of an idempotent internal RPC. It is called until it is acknowledged.
            request: Its request.
        """
        self._entries.append(("command", method, request.SerializeToString()))

    def refuse(self, error: Exception) -> NoReturn:
        """Refuses the caller and keeps what was written: ends the block, commits, and raises `error`.

        Any other exception rolls back. If the commit fails, the caller is told that instead.
        """
        self.refusal = error
        raise error

    async def flush(self) -> None:
        """Writes now what was recorded so far. The commit does it by itself; call it before a lock that many wait for.

        Raises:
            Unavailable: DEPENDENCY_UNAVAILABLE.
        """
        if self._entries:
            entries, self._entries = self._entries, []
            await self._outbox.insert(self, entries)


class Work:
    """Begins the units of work of one service."""

    def __init__(
        self, database: Database, source: str, *, clock: Callable[[], datetime] = _utc_now, actor: str = ""
    ) -> None:
        """Initializes the instance.

        Args:
            database: The service's own.
            source: The service's name, the `source` of its audit events.
            clock: The time that the service goes by.
            actor: Who works here, where no call says so: `operator`.
        """
        self.database = database
        """For reads that need no transaction."""
        self.outbox = Outbox(source, actor)
        self.now = clock

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[UnitOfWork]:
        """Opens a transaction.

        It commits when the block ends, and rolls back when the block raises, except by `UnitOfWork.refuse`.

        Raises:
            Unavailable: DEPENDENCY_UNAVAILABLE. If the connection broke during the commit, whether it happened is
                unknown.
        """
        async with self.database.transaction() as transaction:
            tx = UnitOfWork(transaction, self.outbox)
            try:
                yield tx
            except Exception as error:
                if error is not tx.refusal:
                    raise
            await tx.flush()
        for wait in tx.afterwards.values():
            await wait()
        if tx.refusal is not None:
            raise tx.refusal
