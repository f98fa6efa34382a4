"""A real Prometheus that scrapes a real server, with everything in it that a dashboard shows."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import httpx
import pytest
import yaml

from student_success.core.paths import ROOT
from student_success.domain.students import EXAMPLE
from tests.server import Server, free_port, serving

MONITORING = ROOT / "monitoring"
PUPILS = 20
SETTLE_SECONDS = 60.0
RUNBOOK = "https://example.org/runbook.md"


def tool(name: str) -> str:
    """Return a program of the Debian packages prometheus, prometheus-alertmanager, or skip."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(
            f"{name} is not installed: apt-get install prometheus prometheus-alertmanager "
            "prometheus-node-exporter prometheus-blackbox-exporter"
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
def running(*command: str, log: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a program for the block, and end it by its own id."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield
        assert process.poll() is None, log.read_text("utf-8", "replace")[-2000:]
    finally:
        process.terminate()
        process.wait(20)


def configuration(folder: Path, ports: dict[str, int]) -> Path:
    """Write the project's own configuration, with the addresses and the pace of a test."""
    text = (MONITORING / "prometheus" / "prometheus.yml").read_text("utf-8")
    text = text.replace("blackbox-exporter:9115", f"127.0.0.1:{ports['blackbox']}")
    text = text.replace("http://ui:7860/fr/", f"http://127.0.0.1:{ports['api']}/livez")
    config = yaml.safe_load(text)
    config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(MONITORING / "prometheus" / "rules" / "*.yml")]
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        target = "blackbox" if job["job_name"] == "interface" else job["job_name"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[target]}"]}]
    alertmanager = [{"targets": [f"127.0.0.1:{ports['alertmanager']}"]}]
    config["alerting"]["alertmanagers"] = [{"static_configs": alertmanager}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path


def textfile(folder: Path, *, failed: bool) -> None:
    """Write the metrics of a complete backup, and of one that failed after it."""
    script = ROOT / "docker" / "backup-metrics"
    for outcome in ("0", "1") if failed else ("0",):
        subprocess.run([script, folder, outcome, "1000"], check=True)


def probes(folder: Path) -> Path:
    """Write the stack's configuration of the blackbox exporter."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    text = compose["configs"]["probes"]["content"]
    path = folder / "probes.yml"
    path.write_text(text.replace("${SITE_ADDRESS:-localhost}", "localhost"), "utf-8")
    return path


@dataclass(frozen=True)
class Receivers:
    """What Alertmanager sent: by path of the webhook, and as mail."""

    url: str
    mail_port: int
    posted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    mails: list[str] = field(default_factory=list)

    def alerts(self, path: str) -> dict[str, dict[str, Any]]:
        """Return the alerts that a webhook got, by name."""
        return {
            alert["labels"]["alertname"]: alert
            for found, body in list(self.posted)
            if found == path
            for alert in body["alerts"]
        }


@pytest.fixture(scope="session")
def receivers() -> Iterator[Receivers]:
    """Run a webhook receiver and a mail server on loopback."""

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.posted.append((self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Mail(StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 mail.example.org\r\n")
            while line := self.rfile.readline().strip().upper():
                self.wfile.write(b"354 go on\r\n" if line == b"DATA" else b"250 ok\r\n")
                if line == b"DATA":
                    lines = iter(lambda: self.rfile.readline().rstrip(), b".")
                    found.mails.append(b"\n".join(lines).decode())
                    self.wfile.write(b"250 ok\r\n")
                elif line == b"QUIT":
                    return

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as webhook,
        ThreadingTCPServer(("127.0.0.1", 0), Mail) as mail,
    ):
        found = Receivers(f"http://127.0.0.1:{webhook.server_port}", mail.server_address[1])
        for server in (webhook, mail):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        for server in (webhook, mail):
            server.shutdown()


@contextlib.contextmanager
def certificate(folder: Path) -> Iterator[int]:
    """Serve a certificate of two days on a port of loopback."""
    # fmt: off
    subprocess.run(
        [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-keyout", folder / "site.key", "-out", folder / "site.pem"],
        check=True, capture_output=True,
    )
    # fmt: on
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "site.pem", folder / "site.key")
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


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
def prometheus(
    scraped: Server, receivers: Receivers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Return a Prometheus that has seen a life of the service, whose last backup failed."""
    kinds = ("", "-alertmanager", "-node-exporter", "-blackbox-exporter")
    programs = [tool(f"prometheus{kind}") for kind in kinds]
    folder = tmp_path_factory.mktemp("prometheus")
    textfile(folder / "textfile", failed=True)
    ports = {job: free_port() for job in ("prometheus", "alertmanager", "node", "blackbox")}
    ports["api"] = scraped.port
    here = {job: f"127.0.0.1:{port}" for job, port in ports.items()}
    (folder / "alertmanager").mkdir()
    environment = {
        **os.environ,
        "RUNBOOK_URL": RUNBOOK,
        "TMPDIR": str(folder / "alertmanager"),
        "ALERTMANAGER": programs[1],
        "ALERT_WEBHOOK_URL": f"{receivers.url}/alerts",
        "DEAD_MANS_SWITCH_URL": f"{receivers.url}/alive",
        "ALERT_MAIL_TO": "oncall@example.org",
        "ALERT_SMTP_HOST": f"127.0.0.1:{receivers.mail_port}",
        "ALERT_SMTP_TLS": "false",
    }
    with contextlib.ExitStack() as stack:
        ports["certificate"] = stack.enter_context(certificate(folder))
        for name, command in {
            "node": [
                programs[2],
                f"--web.listen-address={here['node']}",
                f"--collector.textfile.directory={folder / 'textfile'}",
            ],
            "blackbox": [
                programs[3],
                f"--config.file={probes(folder)}",
                f"--web.listen-address={here['blackbox']}",
            ],
            "alertmanager": [
                str(MONITORING / "alertmanager" / "start"),
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={here['alertmanager']}",
                "--cluster.listen-address=",
            ],
            "prometheus": [
                programs[0],
                f"--config.file={configuration(folder, ports)}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={here['prometheus']}",
                "--enable-feature=expand-external-labels",
            ],
        }.items():
            log = folder / f"{name}.log"
            stack.enter_context(running(*command, log=log, environment=environment))
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
