"""Rules of Prometheus: recorded error ratios, burn rates of error budgets, and alarms.

Burn rates over two windows each, as https://sre.google/workbook/alerting-on-slos/ has them: a short window next to a
long one, so that an alarm ends soon after its cause.
"""

from collections.abc import Iterator
from typing import Any

import yaml

from mesh.render.watch.definition import ALARMS, OBJECTIVES, Objective

BURN_RATES = (
    (14.4, "1h", "5m", "page"),
    (6.0, "6h", "30m", "page"),
    (3.0, "1d", "2h", "ticket"),
    (1.0, "3d", "6h", "ticket"),
)
"""How many times faster than allowed the budget is used up, over which long and short window, how urgent that is."""
WINDOWS = tuple(dict.fromkeys(window for _, long, short, _ in BURN_RATES for window in (short, long)))
_BAD = "authmesh:slo_bad:now"
RUNBOOKS = "docs/runbooks.md"
OBSERVED_PORT = 15021


def rules() -> str:
    """The file of rules."""
    recorded = [rule for objective in OBJECTIVES for rule in _recorded(objective)]
    burning = [_burning(objective, *burn) for objective in OBJECTIVES for burn in BURN_RATES]
    alarms = [
        _alarm(one.name, one.expression, one.lasting, one.severity, one.summary, one.name.lower()) for one in ALARMS
    ]
    groups = [
        {"name": "authmesh objectives", "interval": "30s", "rules": recorded},
        {"name": "authmesh error budgets", "rules": burning},
        {"name": "authmesh alarms", "rules": alarms},
    ]
    return _yaml({"groups": groups})


def scrape_kubernetes(namespace: str) -> str:
    """What a Prometheus in the cluster scrapes: each pod's process, and its Envoy."""
    name = "__meta_kubernetes_pod_label_app_kubernetes_io_name"
    here = [
        {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "action": "keep", "regex": "observed"},
        {"source_labels": [name], "target_label": "node"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    ]
    processes = {"source_labels": [name], "action": "drop", "regex": "edge"}
    jobs = [
        {
            "job_name": job,
            "metrics_path": path,
            "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [namespace]}}],
            "relabel_configs": [*here, *further],
        }
        for job, path, further in (("authmesh", "/metrics", [processes]), ("authmesh-envoy", "/metrics/envoy", []))
    ]
    return _yaml({"scrape_configs": jobs})


def _recorded(objective: Objective) -> Iterator[dict[str, Any]]:
    labels = {"slo": objective.name}
    errors = objective.errors
    if objective.bad:
        # A series of its own: a subquery over days would compute each of its points anew, every 30 s.
        yield {"record": _BAD, "labels": labels, "expr": objective.bad}
        errors = f'avg_over_time({_BAD}{{slo="{objective.name}"}}[{{window}}])'
    for window in WINDOWS:
        yield {"record": _ratio(window), "labels": labels, "expr": errors.replace("{window}", window)}


def _burning(objective: Objective, rate: float, long: str, short: str, severity: str) -> dict[str, Any]:
    limit = f"{round(rate * objective.budget, 6):g}"
    both = " and ".join(f'{_ratio(window)}{{slo="{objective.name}"}} > {limit}' for window in (long, short))
    summary = f"{objective.title}: the error budget is used up {rate:g} times as fast as it may be"
    name = "AuthmeshErrorBudget"
    rule = _alarm(name, both, "2m", severity, summary, name.lower())
    rule["labels"] |= {"slo": objective.name, "window": long}
    return rule


def _alarm(name: str, expression: str, lasting: str, severity: str, summary: str, anchor: str) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": lasting,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "runbook": f"{RUNBOOKS}#{anchor}"},
    }


def _ratio(window: str) -> str:
    return f"authmesh:slo_errors:ratio_rate{window}"


def _yaml(content: Any) -> str:
    return str(yaml.safe_dump(content, sort_keys=False, width=150))
