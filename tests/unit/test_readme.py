"""The README's status table is what the code does."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import services
from mesh.contract import Contract
from mesh.operator import implemented as served

README = Path(__file__).parents[2] / "README.md"


def implemented() -> set[tuple[str, str]]:
    """(service, method) of every method that some servicer of ours overrides."""
    found: set[tuple[str, str]] = set()
    for module in pkgutil.walk_packages(services.__path__, "services."):
        if ".migrations" in module.name or module.name.endswith(".main"):
            continue
        for _, servicer in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            generated = [
                base
                for base in servicer.__mro__
                if base.__module__.startswith("authmesh.") and base.__name__.endswith("Servicer")
            ]
            if not generated or servicer in generated:
                continue
            service = (
                generated[0].__module__.rpartition(".")[0].removeprefix("authmesh.")
                + "."
                + generated[0].__name__.removesuffix("Servicer")
            )
            found |= {
                (service, name)
                for name in vars(generated[0])
                if getattr(servicer, name) is not getattr(generated[0], name)
            }
    return found


def test_the_status_table_tells_what_answers_and_what_does_not() -> None:
    table = README.read_text().split("<!-- status -->")[1].split("<!-- /status -->")[0]
    told: dict[tuple[str, str], bool] = {}
    for service, answers, missing in re.findall(r"^\| ([a-z]+\.v1\.\w+) \|([^|]*)\|([^|]*)\|$", table, re.MULTILINE):
        told |= {(service, name): True for name in re.findall(r"\w+", answers)}
        told |= {(service, name): False for name in re.findall(r"\w+", missing)}
    real = implemented()
    contract = [(rpc.service.removeprefix("authmesh."), rpc.name) for rpc in Contract.load().rpcs.values()]
    assert told == {rpc: rpc in real for rpc in contract}


def test_what_answers_can_be_read_from_the_code_without_importing_it() -> None:
    read = {(rpc.service.removeprefix("authmesh."), rpc.name) for rpc in served.implemented(Contract.load())}
    assert read == {(service, name) for service, name in implemented() if not name.startswith("_")}
