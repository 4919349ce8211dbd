"""A dashboard of Grafana (JSON model, schema version 39)."""

import json
from itertools import groupby
from typing import Any

from mesh.render.watch.definition import OBJECTIVES, PANELS

_SOURCE = {"type": "prometheus", "uid": "${source}"}
_COLUMNS, _HEIGHT = 3, 8
_WIDTH = 24 // _COLUMNS


def dashboard() -> str:
    """The file."""
    panels: list[dict[str, Any]] = []
    y = _objectives(panels, 0)
    for row, members in groupby(PANELS, key=lambda panel: panel.row):
        panels.append(_row(row, y, len(panels)))
        y += 1
        for number, panel in enumerate(members):
            place = {"x": number % _COLUMNS * _WIDTH, "y": y + number // _COLUMNS * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append(
                {
                    "id": len(panels) + 1,
                    "type": "timeseries",
                    "title": panel.title,
                    "datasource": _SOURCE,
                    "gridPos": place,
                    "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
                    "targets": [
                        {
                            "refId": chr(ord("A") + index),
                            "expr": expression,
                            "legendFormat": legend,
                            "datasource": _SOURCE,
                        }
                        for index, (legend, expression) in enumerate(panel.queries)
                    ],
                }
            )
        y += (number // _COLUMNS + 1) * _HEIGHT
    content = {
        "uid": "authmesh",
        "title": "authmesh",
        "tags": ["authmesh"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels,
    }
    return json.dumps(content, indent=2) + "\n"


def _objectives(panels: list[dict[str, Any]], y: int) -> int:
    panels.append(_row("Objectives", y, 0))
    width = 24 // len(OBJECTIVES)
    for number, objective in enumerate(OBJECTIVES):
        burnt = f'avg_over_time(authmesh:slo_errors:ratio_rate1h{{slo="{objective.name}"}}[30d]) / {objective.budget:g}'
        steps = [{"color": "red", "value": None}, {"color": "orange", "value": 0.1}, {"color": "green", "value": 0.5}]
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "stat",
                "title": f"{objective.title}: budget left",
                "datasource": _SOURCE,
                "gridPos": {"x": number * width, "y": y + 1, "w": width, "h": 4},
                "fieldConfig": {
                    "defaults": {"unit": "percentunit", "thresholds": {"mode": "absolute", "steps": steps}},
                    "overrides": [],
                },
                "targets": [{"refId": "A", "expr": f"1 - {burnt}", "datasource": _SOURCE}],
            }
        )
    return y + 5


def _row(title: str, y: int, identity: int) -> dict[str, Any]:
    return {
        "id": identity + 1,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
        "panels": [],
    }
