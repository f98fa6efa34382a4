"""A real Prometheus that scrapes a real server, with everything in it that a dashboard shows."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from student_success.core.settings import ROOT
from student_success.domain.students import EXAMPLE
from tests.server import Server, free_port, serving

MONITORING = ROOT / "monitoring"
PUPILS = 20
SETTLE_SECONDS = 60.0


def tool(name: str) -> str:
    """Return a program of the Debian packages prometheus, prometheus-alertmanager, or skip."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(
            f"{name} is not installed: apt-get install prometheus prometheus-alertmanager "
            "prometheus-node-exporter"
        )
    return found


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10)
        said = answer.json()
        assert said["status"] == "success", f"{expression}: {said.get('error')}"
        result = said["data"]["result"]
        return list(result) if said["data"]["resultType"] == "vector" else [{"value": result}]

    def await_data(self, expression: str, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until an expression has a value."""
        end = time.monotonic() + seconds
        while not self.query(expression):
            assert time.monotonic() < end, f"no data for {expression}"
            time.sleep(0.5)


@contextlib.contextmanager
def running(*command: str, log: Path) -> Iterator[None]:
    """Run a program for the block, and end it by its own id."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
        assert process.poll() is None, log.read_text("utf-8", "replace")[-2000:]
    finally:
        process.terminate()
        process.wait(20)


def configuration(folder: Path, ports: dict[str, int]) -> Path:
    """Write the project's own configuration, with the addresses and the pace of a test."""
    config = yaml.safe_load((MONITORING / "prometheus" / "prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(MONITORING / "prometheus" / "rules" / "*.yml")]
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    alertmanager = [{"targets": [f"127.0.0.1:{ports['alertmanager']}"]}]
    config["alerting"]["alertmanagers"] = [{"static_configs": alertmanager}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path


@pytest.fixture(scope="session")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server of two workers, fresh."""
    settings = {
        "WORKERS": "2",
        "MONITOR_SECONDS": "0.5",
        "DRIFT_MINIMUM_COUNT": "10",
        "TRAIN_BUDGET_SECONDS": "1",
        "DATA_PATH": str(ROOT / "data" / "sample.csv"),
    }
    with serving(tmp_path_factory.mktemp("scraped"), **settings) as server:
        yield server


@pytest.fixture(scope="session")
def prometheus(scraped: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Return a Prometheus that has seen a life of the service."""
    programs = [tool(f"prometheus{kind}") for kind in ("", "-alertmanager", "-node-exporter")]
    folder = tmp_path_factory.mktemp("prometheus")
    ports = {job: free_port() for job in ("prometheus", "alertmanager", "node")}
    ports["api"] = scraped.port
    here = {job: f"127.0.0.1:{port}" for job, port in ports.items()}
    with contextlib.ExitStack() as stack:
        for name, command in {
            "node": [programs[2], f"--web.listen-address={here['node']}"],
            "alertmanager": [
                programs[1],
                f"--config.file={MONITORING / 'alertmanager' / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={here['alertmanager']}",
                "--cluster.listen-address=",
            ],
            "prometheus": [
                programs[0],
                f"--config.file={configuration(folder, ports)}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={here['prometheus']}",
            ],
        }.items():
            stack.enter_context(running(*command, log=folder / f"{name}.log"))
        found = Prometheus(f"http://{here['prometheus']}")
        end = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{found.url}/-/ready", timeout=2).status_code == 200:
                    break
            time.sleep(0.2)
        found.await_data('up{job="api"} == 1')
        live(scraped)
        found.await_data('rate(student_success_training_runs_total{outcome="ok"}[1m])')
        found.await_data("horizon:student_success_live_mae:max > 0")
        found.await_data("student_success_promotions_total")
        yield found


def live(server: Server) -> None:
    """Do everything that is measured: predict well and badly, learn grades, train, promote."""
    with httpx.Client(base_url=server.url, headers=server.admin, timeout=300) as admin:
        predict_and_learn(admin)
        trained = admin.post("/train", json={})
        assert trained.status_code == 200, trained.text
        body = {"version": trained.json()["version"], "allow_synthetic": True}
        # Whether the gate lets it through is another test's matter; both are counted.
        assert admin.post("/promote", json=body).status_code in (200, 409)
        assert admin.post("/promote", json={"version": 999}).status_code == 404
        # A counter that is there from its first event on has no increase yet: so, several times.
        for _ in range(3):
            predict_and_learn(admin)
            time.sleep(2)


def predict_and_learn(admin: httpx.Client) -> None:
    """Ask for pupils of every horizon and decision, make mistakes, and tell the real grades."""
    for first, second in ((14, 13), (6, 5), (12, None), (None, None)):
        pupils = [
            {**EXAMPLE, "age": 15 + number % 8, "absences": number, "G1": first, "G2": second}
            for number in range(PUPILS)
        ]
        answer = admin.post("/predict_batch", json={"students": pupils})
        assert answer.status_code == 200, answer.text
        outcomes = [
            {"prediction_id": one["prediction_id"], "actual_G3": number % 21}
            for number, one in enumerate(answer.json()["predictions"])
        ]
        assert admin.post("/outcomes", json={"outcomes": outcomes}).json()["accepted"] == PUPILS
    unusual = admin.post("/predict", json={**EXAMPLE, "absences": 365})
    assert unusual.json()["unusual"] == ["absences"]
    for number in range(10):
        assert admin.post("/predict", json=EXAMPLE).status_code == 200
        assert admin.post("/predict", json={"age": number}).status_code == 422
    assert admin.get("/nowhere").status_code == 404
