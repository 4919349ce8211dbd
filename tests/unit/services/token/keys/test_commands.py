"""`authmesh keys` on the command line."""

import pytest
from typer.testing import CliRunner

from services.token.keys.commands import commands

NOWHERE = {"NODE": "token", "DATABASE_URL": "postgresql://token@127.0.0.1:1/token"}


@pytest.mark.parametrize(
    "key_id", ["-01up99kmNcbLsmvVmpilIhxFirEOfZU6FrNUc-tm5c", "--vLsmvVmpilIhxFirEOfZU6FrNUc-tm5c01up99kmNc", "keys/a"]
)
def test_a_key_is_revoked_by_its_id_whatever_that_begins_with(key_id: str) -> None:
    # One thumbprint in 64 begins with a dash.
    result = CliRunner().invoke(commands, ["revoke", key_id], env=NOWHERE)
    assert (result.exit_code, result.output) == (1, "authmesh: the database is out of reach: try again\n")
