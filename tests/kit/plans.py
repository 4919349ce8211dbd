"""What PostgreSQL really does for a statement."""

import json
from typing import Any

from mesh.storage.database import Transaction


async def plan(tx: Transaction, query: str, types: str = "", arguments: str = "") -> Any:
    """Runs a statement by the plan that serves any arguments, and returns the plan with what each step gave.

    Args:
        tx: A transaction: what the statement changes is part of it.
        query: With `$1` and so on.
        types: Of the parameters, `"timestamptz, integer"`.
        arguments: In SQL, `"(now(), 10)"`.
    """
    await tx.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    await tx.execute(f"PREPARE planned {f'({types})' if types else ''} AS {query}")
    found = json.loads(await tx.fetchval(f"EXPLAIN (ANALYZE, BUFFERS OFF, FORMAT JSON) EXECUTE planned {arguments}"))
    await tx.execute("DEALLOCATE planned")
    return found[0]["Plan"]


def most_rows(plan: dict[str, Any]) -> int:
    """The most rows that any step of a plan read or gave."""
    own = int(plan["Actual Rows"]) + int(plan.get("Rows Removed by Filter", 0))
    return max(own, *(most_rows(inner) for inner in plan.get("Plans", ())), 0)


def scans(plan: dict[str, Any]) -> set[str]:
    """The indexes that a plan reads, and `Seq Scan` if it reads a table."""
    own = {plan["Index Name"]} if "Index Name" in plan else {"Seq Scan"} if plan["Node Type"] == "Seq Scan" else set()
    return own.union(*(scans(inner) for inner in plan.get("Plans", ())))
