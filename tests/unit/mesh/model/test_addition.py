"""A mesh file of a service of one's own: what it adds, and what is said when it is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from mesh.contract import Contract
from mesh.model.addition import load_addition
from mesh.model.agreement import check_agreement
from mesh.model.document import DocumentError
from mesh.model.mesh import load_mesh
from tests.kit.greeter import make

Change = Callable[[str, str], Path]


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    return await make(tmp_path)


@pytest.fixture
def changed(file: Path) -> Change:
    """The page's file, with one text in place of another."""

    def change(old: str, new: str) -> Path:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        return file

    return change


def test_it_is_added_to_the_mesh_and_agrees_with_both_contracts(file: Path, tmp_path: Path) -> None:
    addition = load_addition(file)
    mesh = addition.added_to(load_mesh())
    contract = Contract.load().joined(addition.contract_of(file), tmp_path / "joined.binpb")
    assert set(mesh.nodes) == {*load_mesh().nodes, "greeter"}
    check_agreement(mesh, contract)
    assert Contract.read(tmp_path / "joined.binpb").rpcs.keys() == {
        *Contract.load().rpcs, "/greeter.v1.Greeter/Greet"
    }  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), [
    ("command: [python, service.py]", "comand: [python]",
     "virtualNodes[0].comand: there is no such key: did you mean command?"),
    ("command: [python, service.py]", "command: []", "virtualNodes[0].command: "),
    ("perRequest: 15s", "perRequest: 15", "perRequest: a duration is a number and ms, s, m or h"),
    ("contract: greeter.binpb", "[", "mesh.yaml"),
])  # fmt: skip
def test_a_wrong_file_is_told_with_its_place(changed: Change, old: str, new: str, said: str) -> None:
    with pytest.raises(DocumentError) as refused:
        load_addition(changed(old, new))
    assert said in str(refused.value)


@pytest.mark.parametrize(("old", "new", "said"), [
    ("- name: greeter\n  command", "- name: token\n  command", "more than one is called token"),
    ("backends: [token.authmesh]", "backends: [other.authmesh]", "there is no virtual service other.authmesh"),
])  # fmt: skip
def test_what_does_not_fit_the_mesh_is_refused(changed: Change, old: str, new: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        load_addition(changed(old, new)).added_to(load_mesh())


@pytest.mark.parametrize("content", [None, b"no descriptors"])
def test_a_contract_that_can_not_be_read_says_how_to_write_it(file: Path, content: bytes | None) -> None:
    if content is None:
        file.with_name("greeter.binpb").unlink()
    else:
        file.with_name("greeter.binpb").write_bytes(content)
    with pytest.raises(DocumentError, match="write it with protoc --descriptor_set_out"):
        load_addition(file).contract_of(file)
