"""Administrators find people by the beginning of an address or of a name. On a real database."""

from typing import TYPE_CHECKING

import pytest

from services.user.store import SEARCH, Match

if TYPE_CHECKING:
    import uuid

    from .conftest import UserParts


@pytest.fixture
async def people(user: "UserParts") -> dict[str, "uuid.UUID"]:
    return {
        email: await user.new_user(email, name)
        for email, name in {
            "ada@example.com": "Ada Lovelace",
            "adam@example.com": "Zoe",
            "alan@example.com": "Alan Turing",
            "zoe@example.com": "ADA Yonath",
            "eve@example.com": "100% _real_",
            "emoji@example.com": "Ünal",
        }.items()
    }


async def found(user: "UserParts", query: str, size: int = 50) -> list[str]:
    """The addresses, read in pages of `size`."""
    seen: list[str] = []
    after: Match | None = None
    while True:
        page = await user.directory.search(query, after, size)
        seen += [profile.email for _, profile in page]
        if len(page) < size:
            return seen
        after = page[-1][0]


@pytest.mark.parametrize("size", [1, 2, 50])
@pytest.mark.parametrize(
    ("query", "emails"),
    [
        ("ad", ["zoe@example.com", "ada@example.com", "adam@example.com"]),
        ("ADA@", ["ada@example.com"]),
        ("ada y", ["zoe@example.com"]),
        ("al", ["alan@example.com"]),
        ("100%", ["eve@example.com"]),
        ("%", []),
        ("ünal", ["emoji@example.com"]),
        ("ÜN", ["emoji@example.com"]),
        ("adb", []),
    ],
)
async def test_a_beginning_finds_addresses_and_names_once_each(
    user: "UserParts", people: object, query: str, emails: list[str], size: int
) -> None:
    assert await found(user, query, size) == emails


async def test_who_comes_and_goes_moves_no_one_to_another_page(
    user: "UserParts", people: dict[str, "uuid.UUID"]
) -> None:
    (first,) = await user.directory.search("a", None, 1)
    await user.new_user("aaa@example.com", "Zed")
    rest = await user.directory.search("a", first[0], 50)
    assert first[1].email not in [profile.email for _, profile in rest]
    assert len(rest) == 3


async def test_a_search_reads_no_more_than_its_page(user: "UserParts") -> None:
    await user.database.execute(
        """
        INSERT INTO users (id, email, display_name, create_time, update_time)
        SELECT gen_random_uuid(), 'person' || n || '@example.com', 'Somebody ' || n, now(), now()
        FROM generate_series(1, 20000) n
        """
    )
    await user.database.execute("ANALYZE users")
    async with user.database.transaction() as tx:
        rows = await tx.fetch(
            f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {SEARCH}",
            "p",
            "",
            (await user.new_user("x@example.com")),
            51,
        )
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan" not in plan, plan
    assert plan.count("rows=51") >= 2, plan
