"""Dashboards: every panel shows something, and nothing that is measured is forgotten."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from student_success.core import metrics
from student_success.services.prediction import predicted_grade
from tests.monitoring.conftest import MONITORING, RUNBOOK, Prometheus
from tests.server import Server

pytestmark = pytest.mark.e2e

DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h", "$__interval": "15s", "$instance": ".*"}
# What is measured and shown on no dashboard, and why.
NOT_SHOWN: dict[str, str] = {
    "student_success_access_log_lines_dropped": "Read when lines are missing from the access log.",
    "student_success_wrong_tokens": "Read by the alert WrongTokens.",
    "student_success_audit_log_problems": "Read by the alert AuditLogBroken.",
    "student_success_model_synthetic": "Read by the alert SyntheticModelServed.",
    "student_success_workers_behind": "Read by the alert WorkersBehind.",
}


def dashboard(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def panels() -> Iterator[tuple[str, str]]:
    for path in DASHBOARDS:
        for panel in dashboard(path)["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.stem}: {panel['title']} {target['refId']}", target["expr"]


def annotations() -> Iterator[tuple[str, str]]:
    for path in DASHBOARDS:
        for found in dashboard(path)["annotations"]["list"]:
            yield f"{path.stem}: {found['name']}", found["expr"]


def expressions() -> str:
    rules = (MONITORING / "prometheus" / "rules").glob("*.yml")
    shown = [expression for _, expression in (*panels(), *annotations())]
    recorded = {
        rule["record"]: rule["expr"]
        for path in rules
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    # A recording rule on a dashboard shows what it is made of.
    return "\n".join(shown + [e for name, e in recorded.items() if name in "\n".join(shown)])


def filled(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def families(server: Server) -> list[Metric]:
    return list(text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text))


@pytest.mark.parametrize(("panel", "expression"), [pytest.param(*p, id=p[0]) for p in panels()])
def test_panel_has_data(prometheus: Prometheus, panel: str, expression: str) -> None:
    prometheus.await_data(filled(expression), seconds=30)
    values = [float(series["value"][1]) for series in prometheus.query(filled(expression))]
    assert any(not math.isnan(value) for value in values), panel


@pytest.mark.parametrize(("name", "expression"), [pytest.param(*a, id=a[0]) for a in annotations()])
def test_annotation_query_is_valid(prometheus: Prometheus, name: str, expression: str) -> None:
    prometheus.query(filled(expression))


def test_every_metric_is_on_a_dashboard_or_listed_as_hidden(
    scraped: Server, prometheus: Prometheus
) -> None:
    measured = {family.name for family in families(scraped)}
    declared = {
        collector._name
        for collector in (*vars(metrics).values(), predicted_grade)
        if hasattr(collector, "_name")
    }
    assert declared <= measured
    shown = expressions()
    missing = {
        name
        for name in measured | declared
        if not re.search(rf"\b{name}(_total|_bucket|_sum|_count)?\b", shown)
    }
    assert missing == set(NOT_SHOWN)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_fits_grid_and_data_source(path: Path) -> None:
    found = dashboard(path)
    provisioned = yaml.safe_load(
        (MONITORING / "grafana/provisioning/datasources/datasources.yml").read_text("utf-8")
    )
    sources = {source["uid"] for source in provisioned["datasources"]}
    taken: set[tuple[int, int]] = set()
    for panel in found["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] in sources
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
    assert found["uid"].startswith("student-success-")


def test_recording_rules_have_values(prometheus: Prometheus) -> None:
    rules = yaml.safe_load((MONITORING / "prometheus/rules/recording.yml").read_text("utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            prometheus.await_data(rule["record"], seconds=30)


def test_serving_dashboard_can_be_limited_to_one_process(prometheus: Prometheus) -> None:
    found = dashboard(MONITORING / "grafana" / "dashboards" / "serving.json")
    (variable,) = found["templating"]["list"]
    selector = variable["query"]["query"].removeprefix("label_values(").removesuffix(", instance)")
    assert prometheus.query(selector)
    for panel in found["panels"]:
        for target in panel.get("targets", ()):
            # What recording rules have summed over all processes cannot be told apart any more.
            metrics_named = re.findall(r"(?<![\w:])(?:bentoml|student_success)_\w+", target["expr"])
            backups = sum("_backup_" in name for name in metrics_named)
            limited = target["expr"].count('instance=~"$instance"')
            assert limited >= len(metrics_named) - backups, panel["title"]


def test_firing_alerts_are_listed_with_their_link(prometheus: Prometheus) -> None:
    found = dashboard(MONITORING / "grafana" / "dashboards" / "serving.json")
    (panel,) = [panel for panel in found["panels"] if panel["type"] == "table"]
    (target,) = panel["targets"]
    prometheus.await_data(target["expr"])
    (override,) = panel["fieldConfig"]["overrides"]
    label = override["matcher"]["options"]
    assert f"${{__data.fields.{label}:raw}}" in json.dumps(override["properties"])
    for series in prometheus.query(target["expr"]):
        section = series["metric"]["alertname"].lower()
        assert series["metric"][label] == f"{RUNBOOK}#{section}"
