"""Every refusal in the code has the status that the contract gives its reason."""

import ast
from pathlib import Path

import pytest
from authmesh.errors.v1 import reason_pb2

from mesh import errors
from mesh.errors import Reason
from mesh.rpc.errors import status_code

PROJECT = Path(__file__).resolve().parents[3]
STATUS = {
    value.name.removeprefix("REASON_"): value.GetOptions().Extensions[reason_pb2.rule].status
    for value in reason_pb2.Reason.DESCRIPTOR.values[1:]
}


def raised() -> set[tuple[str, str]]:
    """Class and reason of each refusal that the code makes by name."""
    found = set()
    for folder in ("mesh", "services"):
        for file in (PROJECT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if not isinstance(node, ast.Call) or not node.args:
                    continue
                first = node.args[0]
                if isinstance(first, ast.Attribute) and ast.unparse(first.value) == "Reason":
                    found.add((ast.unparse(node.func).removeprefix("errors."), first.attr))
    return {(name, reason) for name, reason in found if issubclass(getattr(errors, name, type), errors.MeshError)}


def test_code_and_contract_have_the_same_reasons() -> None:
    assert {reason.value for reason in Reason} == STATUS.keys()


@pytest.mark.parametrize(("name", "reason"), sorted(raised()))
def test_a_reason_comes_with_its_status(name: str, reason: str) -> None:
    made = getattr(errors, name)(Reason[reason], "")
    assert status_code(made).name == STATUS[reason]
