"""Private parts of other libraries are as they were when the code that uses them was written."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re

import pytest
from uvicorn.protocols.http import auto, httptools_impl

from student_success.core.paths import ROOT

# Importing BentoML's private parts raises deprecation warnings of its dependencies.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

GRADIO_INTERNALS = "gradio_ui/web/gradio_internals.py"
PARTS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "bentoml_app.py: ASGI middleware": (
        "bentoml",
        "1.4.",
        "_bentoml_impl.server.app",
        (
            "RunnerTrafficMetricsMiddleware",
            "OpenTelemetryMiddleware",
            "for middleware_cls, options in self.service.middlewares:",
        ),
    ),
    "bentoml_app.py: timeout": (
        "bentoml",
        "1.4.",
        "bentoml._internal.server.http.traffic",
        ("class TimeoutMiddleware",),
    ),
    "bentoml_app.py: metrics": (
        "bentoml",
        "1.4.",
        "bentoml._internal.server.http.instruments",
        (
            "class RunnerTrafficMetricsMiddleware",
            "metrics_request_duration",
            "metrics_request_total",
            "metrics_request_in_progress",
            "metrics_last_request_timestamp",
            "_is_setup",
            "def _setup",
            "service_name",
            "service_version",
            "runner_name",
            "endpoint",
            "http_response_code",
        ),
    ),
    "bentoml_app.py: context": (
        "bentoml",
        "1.4.",
        "bentoml._internal.context",
        ("worker_index", "bento_name", "bento_version", "service_name"),
    ),
    "supervisor.py: serve_http": (
        "bentoml",
        "1.4.",
        "_bentoml_impl.server.serving",
        (
            "if isinstance(bento_identifier, Service):",
            "timeout_keep_alive: int | None = None,",
            "timeout_graceful_shutdown: int | None = None,",
        ),
    ),
    "supervisor.py: load": (
        "bentoml",
        "1.4.",
        "_bentoml_impl.loader",
        ("def load(", "working_dir: str | None = None,"),
    ),
    "supervisor.py: commands": (
        "bentoml",
        "1.4.",
        "bentoml._internal.utils.circus",
        ("class Arbiter(_Arbiter):", "endpoint=", "pubsub_endpoint=", "return arbiter_cls("),
    ),
    "supervisor.py: metrics folder": (
        "bentoml",
        "1.4.",
        "_bentoml_impl.server.serving",
        ('"PROMETHEUS_MULTIPROC_DIR": ensure_prometheus_dir()',),
    ),
    "uvicorn_connection.py: protocol": (
        "uvicorn",
        "0.54.",
        "uvicorn.protocols.http.httptools_impl",
        (
            "self.connections.add(self)",
            "self.send_400_response(msg)",
            "self.cycle.more_body = False",
            "self.scope = {",
            "scope=self.scope,",
            "self.pipeline.appendleft",
            "self.disconnected = False",
            "self.message_event = message_event",
            "self.response_started = False",
            "self.response_complete = False",
            "def _should_upgrade_to_ws(self) -> bool:",
            "STATUS_LINE = {",
        ),
    ),
    "uvicorn_connection.py: choice": (
        "uvicorn",
        "0.54.",
        "uvicorn.protocols.http.auto",
        ("AutoHTTPProtocol = HttpToolsProtocol",),
    ),
    "prometheus_histogram.py: buckets": (
        "prometheus_client",
        "0.26.",
        "prometheus_client.metrics",
        (
            "self._sum.inc(amount)",
            "for i, bound in enumerate(self._upper_bounds):",
            "if amount <= bound:",
            "self._buckets[i].inc(1)",
        ),
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_private_part_is_as_it_was(name: str) -> None:
    library, version, module, needed = PARTS[name]
    assert importlib.metadata.version(library).startswith(version), (
        f"{library} changed: look at student_success/server/{name} again, then at this line"
    )
    source = inspect.getsource(importlib.import_module(module))
    assert [text for text in needed if text not in source] == []


def test_uvicorn_uses_httptools_by_default() -> None:
    assert auto.AutoHTTPProtocol is httptools_impl.HttpToolsProtocol


def test_architecture_document_lists_every_module_with_private_parts() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = text.split("## Private parts of other libraries\n")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| ")][1:]
    assert {row[3].strip(" `") for row in rows} == {
        GRADIO_INTERNALS,
        *(f"server/{name.split(':')[0]}" for name in PARTS),
    }
    libraries = {library: version.rstrip(".") for library, version, _, _ in PARTS.values()}
    libraries["gradio"] = ".".join(importlib.metadata.version("gradio").split(".")[:2])
    for row in rows:
        name, version = row[1].strip().split(" ")[0], re.findall(r"[\d.]+", row[1])[-1]
        assert libraries[{"circus": "bentoml"}.get(name, name)] == version
        for test in re.findall(r"`(.+?)`", row[5]):
            assert (ROOT / "tests" / test).is_file()
