"""What the stacks cost: every machine that may be chosen has a price, and what is chosen is counted."""

import re
from datetime import date
from typing import Any

import pytest
import yaml

from mesh.cloudformation.cost import PRICES, Cost, cost
from mesh.cloudformation.stacks import chosen

PRICED: dict[str, Any] = yaml.safe_load(PRICES.read_text())


def of(**parameters: str) -> Cost:
    return cost(chosen(parameters=parameters))


def dollars(found: Cost, what: str) -> float:
    return sum(line.dollars_a_month for line in found.lines if re.search(what, line.what))


@pytest.mark.parametrize(("parameter", "kind"), [
    ("DatabaseClass", "AWS::RDS::DBInstance"), ("CacheClass", "AWS::ElastiCache::ReplicationGroup"),
    ("NodeClass", "AWS::EKS::Nodegroup"),
])  # fmt: skip
def test_whatever_may_be_chosen_has_a_price(parameter: str, kind: str) -> None:
    (allowed,) = [
        stack.template.parameters[parameter]["AllowedValues"]
        for stack in chosen()
        if parameter in stack.template.parameters
    ]
    assert set(allowed) == set(PRICED["hourly"][kind]["price"])
    assert len({of(**{parameter: value}).dollars_a_month for value in allowed}) == len(allowed)


def test_every_priced_type_is_made_by_some_stack() -> None:
    made = {resource["Type"] for stack in chosen() for resource in stack.template.resources.values()}
    assert (PRICED["hourly"].keys() | PRICED["monthly"].keys()) <= made


def test_parameters_are_counted() -> None:
    assert dollars(of(Nodes="6"), "nodes") == pytest.approx(2 * dollars(of(), "nodes"))
    assert dollars(of(DatabaseGigabytes="200"), "storage") == pytest.approx(2 * dollars(of(), "storage"))
    assert of(ShieldAdvanced="yes").dollars_a_month - of().dollars_a_month == pytest.approx(3000)


def test_a_way_out_is_paid_once() -> None:
    endpoints, nat = of(), of(Egress="nat")
    assert dollars(endpoints, "NAT") == 0
    assert dollars(endpoints, "interface endpoint") > 0
    # The gateway to S3 is free.
    assert dollars(nat, "interface endpoint") == 0
    assert dollars(nat, "NAT") == pytest.approx(3 * 0.045 * 730)
    assert [use.what for use in nat.used if "NAT" in use.what]
    assert not [use.what for use in endpoints.used if "NAT" in use.what]


def test_what_is_dear_is_named() -> None:
    told = " ".join(use.what for use in of(GuardDuty="yes").used)
    for word in ("KMS Sign", "data transfer to the internet", "between zones", "GuardDuty"):
        assert word in told


def test_prices_have_a_date_and_docs_repeat_them_right() -> None:
    assert isinstance(PRICED["date"], date)
    page = re.sub(r"\s+", " ", (PRICES.parents[2] / "docs" / "aws.md").read_text())
    assert f"**Endpoints** are ${dollars(of(), 'interface endpoint'):.0f} of it" in page
    nat = dollars(of(Egress="nat"), "NAT|IPv4")
    assert f"three NAT gateways instead (${nat:.0f} with their addresses)" in page
    assert round(of().dollars_a_month, -2) == 1000
    assert "With the defaults about $1,000 a month" in page
