"""Rules and dashboard: each name is a metric that there is, promtool takes the rules, and each alarm fires and ends."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mesh.cli import app
from mesh.render.watch import dashboard, rules, scrape_kubernetes
from mesh.render.watch.definition import ALARMS, OBJECTIVES, PANELS
from mesh.render.watch.prometheus import BURN_RATES, WINDOWS
from mesh.telemetry.metrics import REGISTRY

CHECKOUT = Path(__file__).parents[4]
RUNBOOKS = (CHECKOUT / "docs" / "runbooks.md").read_text()
FIRING: dict[str, tuple[str, str]] = {
    "AuthmeshNodeDown": ('up{node="auth"}', "1x5 0x10 1x20"),
    "AuthmeshNotReady": ('authmesh_part_ready{node="auth",part="database"}', "1x5 0x10 1x20"),
    "AuthmeshRevocationStale": ('authmesh_revocation_staleness_seconds{node="auth"}', "1x5 60x10 1x20"),
    "AuthmeshOutboxWaits": ('authmesh_outbox_oldest_seconds{node="auth",kind="event"}', "0x5 900x10 0x20"),
    "AuthmeshOutboxParked": ('authmesh_outbox_parked{node="auth"}', "0x5 1x12 0x20"),
    "AuthmeshCheckpointLate": ('authmesh_checkpoint_signed_timestamp_seconds{node="audit"}', "0x25 2400x20"),
    "AuthmeshOverloaded": ('authmesh_rpc_calls_total{node="auth",reason="OVERLOADED"}', "0x5 0+600x15 9000x20"),
    "AuthmeshHashesWait": ('authmesh_hashes_waiting{node="auth"}', "0x5 80x12 0x20"),
    "AuthmeshLoopBlocked": ('authmesh_loop_lag_seconds_bucket{node="auth",le="+Inf"}', "0+100x25 2500x20"),
    "AuthmeshRefreshReused": ('authmesh_rpc_calls_total{node="token",reason="REFRESH_REUSED"}', "0x5 0+3x5 15x30"),
    "AuthmeshSigningKeyLate": ('authmesh_signing_key_due_timestamp_seconds{node="token"}', "60x80 99999x20"),
    "AuthmeshCertificateEnds": (
        'envoy_listener_ssl_certificate_expiration_unix_time_seconds{node="edge"}',
        "1200x20 9000x20",
    ),
}
"""For each alarm a series, a value a minute, in which its cause comes and goes."""


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"authmesh_[a-z_]+", expression))


def expressions() -> Iterator[str]:
    yield from (query for panel in PANELS for _, query in panel.queries)
    yield from (alarm.expression for alarm in ALARMS)
    yield from (objective.errors for objective in OBJECTIVES)


def test_every_metric_that_is_asked_for_exists() -> None:
    present = {sample.name for family in REGISTRY.collect() for sample in family.samples}
    present |= {f"{family.name}_total" for family in REGISTRY.collect() if family.type == "counter"}
    present |= {f"{family.name}_bucket" for family in REGISTRY.collect() if family.type == "histogram"}
    present |= {family.name for family in REGISTRY.collect()}
    asked = {name for expression in expressions() for name in metrics_in(expression)}
    assert asked <= present


def test_every_alarm_has_its_runbook_and_every_objective_its_burn_rates() -> None:
    found = yaml.safe_load(rules())["groups"]
    alerts = [rule for group in found for rule in group["rules"] if "alert" in rule]
    for alert in alerts:
        page, _, anchor = alert["annotations"]["runbook"].partition("#")
        assert (CHECKOUT / page).is_file()
        assert anchor in [line.removeprefix("## ").lower() for line in RUNBOOKS.splitlines() if line.startswith("## ")]
        assert alert["labels"]["severity"] in ("page", "ticket")
    burning = [alert["labels"] for alert in alerts if alert["alert"] == "AuthmeshErrorBudget"]
    assert len(burning) == len(OBJECTIVES) * len(BURN_RATES)
    rules_of = [rule for group in found for rule in group["rules"] if "record" in rule]
    recorded = {(rule["record"], rule["labels"]["slo"]) for rule in rules_of}
    assert {
        (f"authmesh:slo_errors:ratio_rate{window}", one.name) for one in OBJECTIVES for window in WINDOWS
    } <= recorded


def test_the_dashboard_has_every_panel_in_its_own_place() -> None:
    panels = json.loads(dashboard())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    titles = [panel["title"] for panel in panels if panel["type"] == "timeseries"]
    assert titles == [panel.title for panel in PANELS]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_what_is_committed_is_what_is_written(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["mesh", "watch", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    written = {"rules.yaml": rules(), "scrape.yaml": scrape_kubernetes("authmesh"), "dashboard.json": dashboard()}
    for name, text in written.items():
        assert (tmp_path / "out" / name).read_text() == text
        assert (CHECKOUT / "deploy" / "prometheus" / name).read_text() == text, "`make gen` writes it: commit that"


@pytest.fixture
def promtool() -> str:
    if not (found := shutil.which("promtool")):
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return found


def run(promtool: str, *arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run([promtool, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_rules_and_scrape_configuration(promtool: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules())
    scraped = yaml.safe_load(scrape_kubernetes("authmesh"))
    for job in scraped["scrape_configs"]:
        # Debian's Prometheus is built without Kubernetes.
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"names": ["authmesh"]}}]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], **scraped}))
    assert "SUCCESS" in run(promtool, "check", "config", "prometheus.yaml", cwd=tmp_path)


def test_each_alarm_is_tried() -> None:
    assert FIRING.keys() == {alarm.name for alarm in ALARMS}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRING)
def test_an_alarm_fires_when_its_cause_is_there_and_ends_with_it(promtool: str, tmp_path: Path, name: str) -> None:
    series, values = FIRING[name]
    further = []
    if name == "AuthmeshLoopBlocked":
        # All of it later than half a second, and then nothing.
        further = [
            {"series": series.replace("+Inf", "0.5"), "values": "0x45"},
            {"series": series.replace("+Inf", "1.0"), "values": values},
        ]
    if name == "AuthmeshCheckpointLate":
        # It has never signed, since it was started.
        further = [{"series": 'process_start_time_seconds{node="audit"}', "values": "0x45"}]
    (tmp_path / "rules.yaml").write_text(rules())

    def firing(at: str, expected: bool) -> dict[str, Any]:
        severity = next(alarm.severity for alarm in ALARMS if alarm.name == name)
        return {
            "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing",severity="{severity}"}}) or vector(0)',
            "eval_time": at,
            "exp_samples": [{"labels": "{}", "value": int(expected)}],
        }

    content = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": values}, *further],
                "promql_expr_test": [firing("0m", False), firing(_at(name), True), firing(_over(name), False)],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(content))
    run(promtool, "test", "rules", "test.yaml", cwd=tmp_path)


def _at(name: str) -> str:
    later = {
        "AuthmeshCheckpointLate": "20m",
        "AuthmeshCertificateEnds": "15m",
        "AuthmeshLoopBlocked": "20m",
        "AuthmeshSigningKeyLate": "75m",
    }
    return later.get(name, "12m")


def _over(name: str) -> str:
    return "95m" if name == "AuthmeshSigningKeyLate" else "44m"


@pytest.mark.slow
def test_a_process_that_has_not_signed_yet_is_not_late(promtool: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules())
    series = [
        {"series": 'authmesh_checkpoint_signed_timestamp_seconds{node="audit"}', "values": "0x30"},
        {"series": 'process_start_time_seconds{node="audit"}', "values": "600x30"},
    ]
    query = 'count(ALERTS{alertname="AuthmeshCheckpointLate"}) or vector(0)'
    told = [
        {"expr": query, "eval_time": at, "exp_samples": [{"labels": "{}", "value": late}]}
        for at, late in (("24m", 0), ("28m", 1))
    ]
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": told}]
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": tests}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(content))
    run(promtool, "test", "rules", "test.yaml", cwd=tmp_path)


@pytest.mark.slow
def test_a_budget_that_burns_fast_pages_and_one_that_is_kept_does_not(promtool: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules())
    calls = 'authmesh_rpc_calls_total{node="auth",method="SignIn",status="%s",reason="%s"}'
    tests = []
    for bad, expected in ((1, 0), (60, 1)):
        series = [
            {"series": calls % ("OK", ""), "values": "0+3000x90"},
            {"series": calls % ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE"), "values": f"0+{bad}x90"},
            # People who mistype their passwords are no fault of ours.
            {"series": calls % ("UNAUTHENTICATED", "CREDENTIALS_INVALID"), "values": "0+900x90"},
        ]
        query = (
            'count(ALERTS{alertname="AuthmeshErrorBudget",alertstate="firing",slo="sign_in",window="1h"}) or vector(0)'
        )
        told = [{"expr": query, "eval_time": "80m", "exp_samples": [{"labels": "{}", "value": expected}]}]
        tests.append({"interval": "1m", "input_series": series, "promql_expr_test": told})
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": tests}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(content))
    run(promtool, "test", "rules", "test.yaml", cwd=tmp_path)
