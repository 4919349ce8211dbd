"""Everything that is held of a person, as one document. On a real database, with sources of the test's own."""

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from authmesh.export.v1.export_pb2 import ExportedItem

from mesh.errors import NotFound, Reason, Unavailable
from mesh.ids import uuid7
from services.user import export
from services.user.export import Export

if TYPE_CHECKING:
    from .conftest import UserParts


class Holder:
    """Holds some items of everyone, and may break in the middle."""

    def __init__(self, *collections: tuple[str, int], breaks: bool = False) -> None:
        self.asked: list[Any] = []
        self._collections = collections
        self._breaks = breaks

    async def __call__(self, request: Any, timeout: float) -> AsyncIterator[ExportedItem]:
        self.asked.append(request)
        for collection, count in self._collections:
            for number in range(count):
                yield ExportedItem(collection=collection, json=json.dumps({"number": number, "text": 'é"'}))
        if self._breaks:
            raise Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "the holder is gone")


async def test_the_document_is_json_with_every_item_in_its_collection(
    user: "UserParts", monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await user.new_user("ada@example.com", "Ada \u2028 Lovelace")
    holders = [Holder(("keys", 2)), Holder(), Holder(("notes", 1), ("shares", 300))]
    monkeypatch.setattr(export, "PIECE_BYTES", 1000)
    pieces = [piece async for piece in Export(user.work, holders).pieces(ada)]
    document = json.loads(b"".join(pieces))
    assert list(document) == ["user", "exportTime", "profile", "keys", "notes", "shares", "complete"]
    assert document["user"] == document["profile"]["name"] == f"users/{ada}"
    assert (document["profile"]["email"], document["profile"]["displayName"]) == (
        "ada@example.com",
        "Ada \u2028 Lovelace",
    )
    assert [item["number"] for item in document["shares"]] == list(range(300))
    assert document["keys"][1] == {"number": 1, "text": 'é"'}
    assert document["complete"] is True
    # No more is held at once than a piece and an item.
    assert len(pieces) > 8
    assert max(map(len, pieces)) < 1200
    assert {(holder.asked[0].subject, holder.asked[0].email) for holder in holders} == {(str(ada), "ada@example.com")}


async def test_the_event_and_the_message_go_out_before_the_first_byte(user: "UserParts") -> None:
    ada = await user.new_user("ada@example.com")
    pieces = Export(user.work, [Holder(breaks=True)]).pieces(ada)
    with pytest.raises(Unavailable):
        await anext(pieces)
    assert [event.type for event in await user.events()] == ["user.data_exported"]
    assert await user.database.fetchval("SELECT count(*) FROM outbox WHERE kind = 'message'") == 1


async def test_nothing_is_held_of_someone_who_is_gone(user: "UserParts") -> None:
    holder = Holder()
    with pytest.raises(NotFound):
        await anext(Export(user.work, [holder]).pieces(uuid7()))
    assert not holder.asked
    assert not await user.events()
