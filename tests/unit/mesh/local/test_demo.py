"""The first calls that are printed."""

import shlex
from pathlib import Path

from mesh.local.demo import DemoUser, Edge, first_calls


def test_first_calls_can_be_pasted() -> None:
    printed = first_calls(
        Edge("https://localhost:8443", Path("/home/some body/.mesh/ca.crt")), DemoUser("demo@authmesh.example", "pa'ss")
    )
    commands = [line.strip() for line in printed.splitlines() if line.startswith("  ")]
    words = [shlex.split(command.removeprefix("TOKEN=$(").removesuffix(")")) for command in commands]
    assert [word[0] for word in words[:3]] == ["curl", "curl", "curl"]
    assert [word[0].endswith("authmesh") for word in words[3:]] == [True, True]
    assert "/home/some body/.mesh/ca.crt" in words[0]
    assert '{"email": "demo@authmesh.example", "password": "pa\'ss", "clientId": "demo"}' in words[3]
