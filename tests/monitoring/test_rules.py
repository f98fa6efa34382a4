"""Alerts: valid, unit-tested, and each with a page for the person who is woken."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from student_success.core.settings import ROOT
from tests.monitoring.conftest import MONITORING, tool

RULES = MONITORING / "prometheus" / "rules"
UNIT_TESTS = MONITORING / "prometheus" / "tests" / "alerts.yml"


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def check(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_configuration_and_rules() -> None:
    check(tool("promtool"), "check", "config", str(MONITORING / "prometheus" / "prometheus.yml"))


def test_alertmanager_accepts_configuration() -> None:
    check(tool("amtool"), "check-config", str(MONITORING / "alertmanager" / "alertmanager.yml"))


def test_alerts_fire_as_their_unit_tests_say() -> None:
    check(tool("promtool"), "test", "rules", str(UNIT_TESTS))


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_alert_links_to_its_runbook_section(alert: dict[str, Any]) -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"
    assert f"\n## {alert['alert']}\n" in runbook
    assert {"summary", "description"} <= set(alert["annotations"])


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_alert_has_firing_and_silent_unit_test(alert: dict[str, Any]) -> None:
    tests = yaml.safe_load(UNIT_TESTS.read_text("utf-8"))["tests"]
    cases = [
        bool(case.get("exp_alerts"))
        for test in tests
        for case in test["alert_rule_test"]
        if case["alertname"] == alert["alert"]
    ]
    assert set(cases) == {True, False}


def test_runbook_has_no_section_without_alert() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    assert set(re.findall(r"^## (\w+)$", runbook, re.MULTILINE)) == {
        alert["alert"] for alert in alerts()
    }


@pytest.mark.parametrize("path", sorted((MONITORING / "grafana" / "dashboards").glob("*.json")))
def test_dashboards_do_not_count_the_alert_that_always_fires(path: Path) -> None:
    counted = re.findall(r"ALERTS\{[^}]*\}", path.read_text("utf-8"))
    assert counted
    assert all("DeadMansSwitch" in selector for selector in counted)
