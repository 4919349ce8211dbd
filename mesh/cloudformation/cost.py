"""What the stacks cost a month, before anything is made: list prices (prices.yaml) times what the templates make."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mesh.cloudformation.stacks import Stack

PRICES = Path(__file__).parent / "prices.yaml"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    stack: str
    what: str
    quantity: float
    dollars_a_month: float


@dataclass(frozen=True, slots=True)
class Use:
    """What is paid by use, and the price of its unit."""

    stack: str
    what: str
    dollars: float


@dataclass(frozen=True, slots=True)
class Cost:
    """The table."""

    date: str
    """Of the prices."""
    region: str
    """Whose prices they are."""
    lines: tuple[Line, ...]
    used: tuple[Use, ...]

    @property
    def dollars_a_month(self) -> float:
        """Of what runs whether it is used or not."""
        return sum(line.dollars_a_month for line in self.lines)


def cost(stacks: Iterable[Stack]) -> Cost:
    """What stacks cost with their parameters, made anew."""
    prices = _prices()
    lines: list[Line] = []
    used: list[Use] = []
    for stack in stacks:
        found: dict[str, tuple[float, float]] = {}
        for resource in stack.template.made(stack.parameters).values():
            for kind, hours in (("hourly", prices["hoursPerMonth"]), ("monthly", 1)):
                entry = prices[kind].get(resource["Type"])
                properties = resource.get("Properties", {})
                if entry is None or any(properties.get(name) != value for name, value in entry.get("only", {}).items()):
                    continue
                what, price = _priced(stack, entry, properties)
                times = (
                    float(stack.template.value(_at(properties, entry["times"]), stack.parameters))
                    if "times" in entry
                    else 1.0
                )
                quantity, dollars = found.get(what, (0.0, 0.0))
                found[what] = (quantity + times, dollars + times * price * hours)
        lines += [Line(stack.short_name, what, quantity, dollars) for what, (quantity, dollars) in found.items()]
        used += [
            Use(stack.short_name, entry["what"], entry["price"])
            for entry in prices["used"]
            if entry["stack"] == stack.short_name
            and all(
                stack.template.value({"Ref": name}, stack.parameters) == value
                for name, value in entry.get("parameter", {}).items()
            )
        ]
    return Cost(str(prices["date"]), prices["region"], tuple(lines), tuple(used))


def _priced(stack: Stack, entry: Mapping[str, Any], properties: Mapping[str, Any]) -> tuple[str, float]:
    if "by" not in entry:
        return entry["what"], float(entry["price"])
    found = _at(properties, entry["by"])
    chosen = stack.template.value(found[0] if isinstance(found, list) else found, stack.parameters)
    return f"{entry['what']} ({chosen})", float(entry["price"][chosen])


def _at(properties: Any, path: str) -> Any:
    for name in path.split("."):
        properties = properties[name]
    return properties


@cache
def _prices() -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load(PRICES.read_text(encoding="utf-8"))
    return found
