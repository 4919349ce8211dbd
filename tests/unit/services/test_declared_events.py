"""What the contract declares to be written is written by the code that serves the method; what the code writes is in
the catalogue.

Read from the source: which tests make each event happen is each service's business. Methods that nobody serves yet are
left out.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

from mesh.contract import Contract, Rpc
from mesh.model.event_types import EVENT_TYPES
from mesh.model.mesh import load_mesh

SERVICES = Path(__file__).parents[3] / "services"
CONTRACT = Contract.load()
WRITTEN_BY_THE_MESH = {"access.denied", "audit.parked"}
"""By any service, through mesh/."""


@cache
def source(service: str) -> tuple[frozenset[str], frozenset[str]]:
    """Names of async functions and all texts of a service's code."""
    functions, texts = set(), set()
    for path in (SERVICES / service).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AsyncFunctionDef):
                functions.add(node.name)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return frozenset(functions), frozenset(texts)


def node(rpc: Rpc) -> str:
    return rpc.service.split(".")[1]


SERVED = [rpc for rpc in CONTRACT.rpcs.values() if rpc.audit and rpc.name in source(node(rpc))[0]]


@pytest.mark.parametrize("rpc", SERVED, ids=lambda rpc: rpc.path)
def test_declared_events_are_written_by_the_service(rpc: Rpc) -> None:
    assert set(rpc.audit) <= source(node(rpc))[1]


@pytest.mark.parametrize("service", list(load_mesh().nodes))
def test_a_service_writes_nothing_that_no_method_of_it_declares(service: str) -> None:
    written = source(service)[1] & EVENT_TYPES
    declared = {event for rpc in CONTRACT.rpcs.values() if node(rpc) == service for event in rpc.audit}
    # Made by the clock or by a start, and by no call.
    by_itself = {
        "auth.anonymous_denials",
        "token.key_created",
        "token.key_activated",
        "token.key_retired",
        "token.key_removed",
    }
    assert written <= declared | by_itself | WRITTEN_BY_THE_MESH | {"token.reuse_detected"}


def test_types_of_events_stand_in_one_module_of_each_service() -> None:
    for path in SERVICES.rglob("*.py"):
        if path.name != "events.py":
            texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
            assert not texts & EVENT_TYPES - {"token.reuse_detected"}, path


def test_most_methods_are_served() -> None:
    assert len(SERVED) >= 20
