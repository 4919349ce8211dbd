"""Metrics as log lines, in CloudWatch's embedded metric format.

A log agent is all it takes to have the metric and its alarm.

Standard library only: Lambda functions use it too. The alarms are in deploy/aws/observability.yaml.
"""

import time
from collections.abc import Mapping
from typing import Any

NAMESPACE = "authmesh"


def embedded(values: Mapping[str, tuple[float, str]], dimensions: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The members of a log line that make it a metric.

    Args:
        values: By name, each value and its unit (`Seconds`, `Count`).
        dimensions: What the values belong to. They are counted under these dimensions, and under none: an alarm needs a
            single series.
    """
    named = dict(dimensions or {})
    metric = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(named), []] if named else [[]],
        "Metrics": [{"Name": name, "Unit": unit} for name, (_, unit) in values.items()],
    }
    return {
        **named,
        **{name: value for name, (value, _) in values.items()},
        "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [metric]},
    }
