"""A resume token says where its person goes on, and to nobody anything else."""

from uuid import uuid4

import pytest

from mesh.errors import InvalidArgument
from services.resource.resume_tokens import ResumeTokens
from tests.conftest import OpenDatabase


async def test_a_token_opens_for_its_person_in_every_replica(open_database: OpenDatabase) -> None:
    database, user = await open_database("services.resource"), uuid4()
    token = (await ResumeTokens(database).of(user)).seal(7)
    assert (await ResumeTokens(database).of(user)).open(token) == 7
    for other, wrong in (
        (uuid4(), token),
        (user, token[:-4]),
        (user, token[::-1]),
        (user, "x"),
        (user, "é"),
        (user, ""),
    ):
        seal = await ResumeTokens(database).of(other)
        with pytest.raises(InvalidArgument):
            seal.open(wrong)
    other_mesh = await open_database("services.resource")
    await other_mesh.execute("UPDATE change_head SET token_secret = '\\x00'")
    elsewhere = await ResumeTokens(other_mesh).of(user)
    with pytest.raises(InvalidArgument):
        elsewhere.open(token)


async def test_tokens_of_one_place_and_of_the_next_can_not_be_told_apart(open_database: OpenDatabase) -> None:
    seal = await ResumeTokens(await open_database("services.resource")).of(uuid4())
    tokens = [seal.seal(position) for position in (0, 0, 1, 2**62)]
    assert len(set(tokens)) == 4
    assert len({len(token) for token in tokens}) == 1
