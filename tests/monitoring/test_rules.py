"""Alerts: valid, unit-tested, and each with a page for the person who is woken."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from student_success.core.paths import ROOT
from tests.monitoring.conftest import MONITORING, RUNBOOK, Prometheus, Receivers, tool

RULES = MONITORING / "prometheus" / "rules"
UNIT_TESTS = sorted((MONITORING / "prometheus" / "tests").glob("*.yml"))
RULE_TEST_SECONDS = 300
SEND_SECONDS = 180
# Quotes, spaces and the like in an address and a password must not break the configuration.
MAIL = {
    "ALERT_MAIL_TO": "o'neill@example.org",
    "ALERT_SMTP_HOST": "mail.example.org:587",
    "ALERT_SMTP_USER": "alerts: #1",
    "ALERT_SMTP_PASSWORD": "it's $HOME `id` {{ }} #",
}
WEBHOOKS = {
    "ALERT_WEBHOOK_URL": "https://chat.example.org/hook?a=1&b='2'",
    "DEAD_MANS_SWITCH_URL": "https://alive.example.org/1234",
}


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def check(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=RULE_TEST_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_configuration_and_rules() -> None:
    check(tool("promtool"), "check", "config", str(MONITORING / "prometheus" / "prometheus.yml"))


def start_alertmanager(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the start script of the stack with a program that only says its arguments."""
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(folder), "ALERTMANAGER": "echo"}
    return subprocess.run(
        [MONITORING / "alertmanager" / "start", "--storage.path=/alertmanager"],
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


@pytest.mark.parametrize("settings", [{}, MAIL, WEBHOOKS, MAIL | WEBHOOKS])
def test_alertmanager_accepts_receivers_of_the_settings(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    done = start_alertmanager(tmp_path, **settings)
    path = tmp_path / "alertmanager.yml"
    assert done.stdout == f"--config.file={path} --storage.path=/alertmanager\n", done.stderr
    check(tool("amtool"), "check-config", str(path))
    assert path.stat().st_mode & 0o077 == 0
    receivers = {one["name"]: one for one in yaml.safe_load(path.read_text("utf-8"))["receivers"]}
    for name in ("pages", "tickets"):
        mails = receivers[name].get("email_configs", [])
        assert [mail["to"] for mail in mails] == values(settings, "ALERT_MAIL_TO")
        passwords = [mail["auth_password"] for mail in mails]
        assert passwords == values(settings, "ALERT_SMTP_PASSWORD")
        hooks = receivers[name].get("webhook_configs", [])
        assert [hook["url"] for hook in hooks] == values(settings, "ALERT_WEBHOOK_URL")
    alive = receivers["dead-mans-switch"].get("webhook_configs", [])
    assert [hook["url"] for hook in alive] == values(settings, "DEAD_MANS_SWITCH_URL")


def values(settings: dict[str, str], name: str) -> list[str]:
    return [settings[name]] if name in settings else []


def test_alertmanager_does_not_start_with_mail_but_no_mail_server(tmp_path: Path) -> None:
    done = start_alertmanager(tmp_path, ALERT_MAIL_TO="oncall@example.org")
    assert done.returncode == 2
    assert "ALERT_SMTP_HOST" in done.stderr


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_as_their_unit_tests_say(path: Path) -> None:
    check(tool("promtool"), "test", "rules", str(path))


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_alert_links_to_its_runbook_section(alert: dict[str, Any]) -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    assert alert["labels"]["severity"] in ("page", "ticket")
    link = f"{{{{ $externalLabels.runbook }}}}#{alert['alert'].lower()}"
    assert alert["annotations"]["runbook_url"] == alert["labels"]["runbook_url"] == link
    assert f"\n## {alert['alert']}\n" in runbook
    assert {"summary", "description"} <= set(alert["annotations"])


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_alert_has_firing_and_silent_unit_test(alert: dict[str, Any]) -> None:
    cases = [
        bool(case.get("exp_alerts"))
        for path in UNIT_TESTS
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]
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


@pytest.mark.e2e
@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_alert_reads_metrics_that_exist(alert: dict[str, Any], prometheus: Prometheus) -> None:
    answer = httpx.get(f"{prometheus.url}/api/v1/label/__name__/values", timeout=10).json()
    expression = re.sub(r"\{[^}]*\}", "", alert["expr"])
    read = re.findall(
        r"\b(?:up|(?:student_success|bentoml|node|probe)_\w+|\w+:\w+:\w+)\b", expression
    )
    assert read or alert["alert"] == "DeadMansSwitch"
    assert set(read) <= set(answer["data"])


@pytest.mark.e2e
def test_firing_alert_reaches_webhook_and_mail_with_its_link(
    prometheus: Prometheus, receivers: Receivers
) -> None:
    # The last backup failed, see the fixture.
    awaited(lambda: "BackupFailed" in receivers.alerts("/alerts"))
    sent = receivers.alerts("/alerts")["BackupFailed"]
    assert sent["status"] == "firing"
    assert sent["labels"]["severity"] == "ticket"
    assert sent["annotations"]["runbook_url"] == f"{RUNBOOK}#backupfailed"
    awaited(lambda: any("BackupFailed" in mail for mail in receivers.mails))
    assert "DeadMansSwitch" not in receivers.alerts("/alerts")


@pytest.mark.e2e
def test_dead_mans_switch_is_called_and_nothing_else_is_sent_there(
    prometheus: Prometheus, receivers: Receivers
) -> None:
    awaited(lambda: receivers.alerts("/alive"))
    assert set(receivers.alerts("/alive")) == {"DeadMansSwitch"}


def awaited(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SEND_SECONDS
    while not condition():
        assert time.monotonic() < end, "nothing was sent"
        time.sleep(0.5)


def test_alerts_of_kubernetes_are_those_of_the_stack() -> None:
    components = ROOT / "deploy" / "kubernetes" / "components"
    written = (components / "prometheus-operator" / "rules.yaml").read_text("utf-8")
    command = [sys.executable, str(ROOT / ".ci" / "prometheus-rule"), "--print"]
    derived = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert written == derived.stdout, "the rules changed: run `.ci/prometheus-rule`"
    alerts = {
        rule["alert"]
        for group in yaml.safe_load(written)["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert {"ApiDown", "ApiNotReady", "ApiFailing", "HistoryWriteErrors"} <= alerts
    # The cluster's own alerts look at its nodes.
    assert not alerts & {"DiskFillingUp", "MemoryLow"}
