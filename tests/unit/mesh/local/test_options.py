"""What may be chosen by environment variables."""

import pytest

from mesh.local.options import Options
from mesh.operator.errors import OperatorError


def test_empty_is_unset() -> None:
    chosen = Options.of({"EDGE_PORT": "", "REDIS_URL": "", "DATABASE_URL": "", "AWS_ENDPOINT_URL": ""})
    assert (chosen.edge_port, chosen.redis_url, chosen.database_url, chosen.aws_endpoint_url) == (
        8443,
        None,
        None,
        None,
    )


@pytest.mark.parametrize("text", ["eighty", "-1", "65536", "80 ", "１２"])
def test_a_port_that_is_none_is_named(text: str) -> None:
    with pytest.raises(OperatorError, match="EDGE_PORT="):
        Options.of({"EDGE_PORT": text})


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_URL", "http://secret@host"),
        ("DATABASE_URL", "mysql://u:secret@host/db"),
        ("AWS_ENDPOINT_URL", "localhost:4566"),
    ],
)
def test_an_address_of_another_kind_is_named_but_not_repeated(name: str, url: str) -> None:
    with pytest.raises(OperatorError, match=f"{name} must begin with") as raised:
        Options.of({name: url})
    assert "secret" not in str(raised.value)


def test_origins_are_separated_by_commas() -> None:
    assert Options.of({"CORS_ORIGINS": " https://app.example , http://localhost:5173,"}).cors_origins == (
        "https://app.example",
        "http://localhost:5173",
    )


@pytest.mark.parametrize(
    ("text", "right"), [("https://app.example/", "write https://app.example$"), ("*", "name each one")]
)
def test_an_origin_that_no_page_has_is_refused(text: str, right: str) -> None:
    with pytest.raises(OperatorError, match=f"CORS_ORIGINS: .*{right}"):
        Options.of({"CORS_ORIGINS": f"http://localhost:5173,{text}"})
