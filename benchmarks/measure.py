"""Measure all servers in interleaved rounds, then this service alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks.load import WrkReport, random_pupils, run_wrk, with_all_grades, write_bodies
from benchmarks.servers_under_test import (
    SERVER_CORE,
    RunningServer,
    ServerUnderTest,
    running,
    servers_under_test,
    this_service,
)

_STARTED = time.perf_counter()
IDLE_TIMEOUT_SECONDS = 60.0
ADMIN = {"Authorization": "Bearer bench"}


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    rounds: int
    seconds: float
    connections: tuple[int, ...]
    slow_seconds: float
    """Seconds of a load of slow servers, or of large batches: a few requests a second."""
    slow: bool
    """Whether to measure what takes minutes: a promotion, 500,000 requests, a second worker."""


QUICK = Plan(rounds=1, seconds=2.0, connections=(1, 16), slow_seconds=6.0, slow=False)
FULL = Plan(rounds=3, seconds=4.0, connections=(1, 16, 64), slow_seconds=12.0, slow=True)


@dataclass
class Results:
    """Everything that was measured, as JSON values."""

    titles: dict[str, str] = field(default_factory=dict)
    loads: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    ready: dict[str, list[float]] = field(default_factory=dict)
    resident: dict[str, float] = field(default_factory=dict)
    micro: dict[str, float] = field(default_factory=dict)
    batch: dict[str, float] = field(default_factory=dict)
    during: dict[str, dict[str, Any]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    image_mb: float | None = None
    plan: dict[str, Any] = field(default_factory=dict)

    def rate(self, server: str, connections: int) -> float:
        """Return the median requests/s."""
        return self._median(server, connections, "rate")

    def p99(self, server: str, connections: int) -> float:
        """Return the median p99 in seconds."""
        return self._median(server, connections, "p99")

    def ready_after(self, server: str) -> float:
        """Return the median time from start to the first answer, in seconds."""
        return statistics.median(self.ready[server])

    def _median(self, server: str, connections: int, figure: str) -> float:
        runs = self.loads[server][str(connections)]
        return statistics.median(run[figure] for run in runs)


def measure(folder: Path, plan: Plan) -> Results:
    """Start all servers, load them in turn, and then measure this service alone.

    Parameters
    ----------
    folder
        Temporary folder; the models that are served are in it.
    plan
        How much to measure.
    """
    results = Results(plan=asdict(plan))
    _starts(results, folder, plan)
    with contextlib.ExitStack() as stack:
        started: list[tuple[RunningServer, Path]] = []
        for server in servers_under_test():
            if not (server.quick or plan.slow):
                continue
            print_progress(f"starting {server.title}")
            process = stack.enter_context(running(server, folder))
            results.titles[server.name] = server.title
            results.ready.setdefault(server.name, [process.ready_seconds])
            started.append((process, _bodies(folder, server)))
        for number in range(plan.rounds):
            # In turn, in every round, so that a slow moment of the machine slows all of them.
            for process, bodies in started:
                print_progress(f"round {number + 1} of {plan.rounds}: {process.server.title}")
                _round(results, process, bodies, plan)
        for process, _ in started:
            results.resident[process.server.name] = process.resident_mb()
        print_progress("batches")
        results.batch = _batches(started[0][0], folder, plan)
    results.image_mb = _image_mb()
    print_progress("cost of each step of a prediction")
    results.micro = _prediction_cost()
    print_progress("a training and a promotion under load")
    results.during = _during(folder, plan)
    if plan.slow:
        print_progress("two workers")
        with running(this_service(workers=2), folder) as process:
            server = process.server
            results.titles[server.name] = server.title
            results.ready[server.name] = [process.ready_seconds]
            for _ in range(plan.rounds):
                _round(results, process, _bodies(folder, server), plan)
            results.resident[server.name] = process.resident_mb()
        print_progress("memory over 500,000 requests")
        results.memory = _memory(folder)
    return results


def _starts(results: Results, folder: Path, plan: Plan) -> None:
    """Start this service and an empty BentoML service in turn, each alone on the machine."""
    print_progress("starting and stopping")
    for _ in range(2 * plan.rounds - 1):
        for server in servers_under_test():
            if server.name in ("ours", "empty-bento"):
                with running(server, folder) as process:
                    results.ready.setdefault(server.name, []).append(process.ready_seconds)


def print_progress(step: str) -> None:
    """Print the time since the start and the step that begins, on standard error."""
    print(f"{time.perf_counter() - _STARTED:6.0f} s  {step}", file=sys.stderr, flush=True)


def _bodies(folder: Path, server: ServerUnderTest) -> Path:
    pupils = random_pupils(1000)
    if server.complete:
        pupils = with_all_grades(pupils)
    return write_bodies(folder / f"{server.name}.jsonl", [server.wrap(p) for p in pupils])


def _round(results: Results, process: RunningServer, bodies: Path, plan: Plan) -> None:
    seconds = plan.slow_seconds if process.server.slow else plan.seconds
    for connections in plan.connections:
        report = run_wrk(process.url, bodies=bodies, connections=connections, seconds=seconds)
        by_connections = results.loads.setdefault(process.server.name, {})
        by_connections.setdefault(str(connections), []).append(asdict(report))
        _wait_until_idle(process)


def _wait_until_idle(process: RunningServer) -> None:
    """Wait until a server is idle: a slow one goes on with the requests that are left."""
    end = time.monotonic() + IDLE_TIMEOUT_SECONDS
    before = process.processor_seconds()
    while time.monotonic() < end:
        time.sleep(0.25)
        now = process.processor_seconds()
        if now - before < 0.05:
            return
        before = now


def _batches(process: RunningServer, folder: Path, plan: Plan) -> dict[str, float]:
    """Return the rows/s of `/predict_batch` by number of rows, one batch at a time."""
    rates = {}
    url = f"http://127.0.0.1:{process.port}/predict_batch"
    for size in (100, 1000, 10_000):
        bodies = write_bodies(
            folder / f"batch-{size}.jsonl",
            [{"students": random_pupils(size, seed=seed)} for seed in range(3)],
        )
        # A batch of 10,000 rows takes a third of a second: in two seconds the number of finished
        # batches, and with it the rate, is known to a fifth only.
        seconds = plan.slow_seconds if size == 10_000 else plan.seconds
        runs = [
            run_wrk(url, bodies=bodies, connections=1, seconds=seconds) for _ in range(plan.rounds)
        ]
        if any(run.failed for run in runs):
            raise RuntimeError("a batch was refused")
        rates[str(size)] = size * statistics.median(run.rate for run in runs)
    return rates


def _image_mb() -> float | None:
    """Return the size of the image that `make image` built, in MB; None if there is none."""
    if shutil.which("docker") is None:
        return None
    command = ["docker", "image", "inspect", "student-success:latest", "--format", "{{.Size}}"]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return int(completed.stdout) / 1e6 if completed.returncode == 0 else None


def _prediction_cost() -> dict[str, float]:
    completed = subprocess.run(
        ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "benchmarks.prediction_cost"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=dict(os.environ),
    )
    costs: dict[str, float] = json.loads(completed.stdout)
    return costs


def _during(folder: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    """Load the service while it is idle, trains, and promotes a version; on both cores."""
    reports: dict[str, dict[str, Any]] = {}
    server = this_service()
    with running(replace(server, name="ours-life"), folder) as process:
        for child in process.processes():
            child.cpu_affinity([0, 1])
        bodies = _bodies(folder, server)
        address = f"http://127.0.0.1:{process.port}"

        def load_while(condition: Callable[[], bool]) -> dict[str, Any]:
            runs: list[dict[str, Any]] = []
            while len(runs) < plan.rounds and condition():
                report = run_wrk(process.url, bodies=bodies, connections=1, seconds=plan.seconds)
                runs.append(asdict(report))
            return {name: statistics.median(run[name] for run in runs) for name in runs[0]}

        reports["idle"] = load_while(lambda: True)
        with httpx.Client(base_url=address, headers=ADMIN, timeout=300) as client:
            budget = plan.rounds * plan.seconds
            request = {"wait": False, "budget_seconds": budget + 2}
            job_id = client.post("/train", json=request).json()["job_id"]

            def state() -> dict[str, Any]:
                job: dict[str, Any] = client.get("/train", params={"job_id": job_id}).json()
                return job

            reports["training"] = load_while(lambda: state()["state"] == "running")
            if not plan.slow:
                return reports
            while state()["state"] == "running":
                time.sleep(0.5)
            job = state()
            if job["state"] == "done":
                reports["promotion"] = _across_promotion(
                    process, bodies, client, job["result"]["version"]
                )
    return reports


def _across_promotion(
    process: RunningServer, bodies: Path, client: httpx.Client, version: int
) -> dict[str, Any]:
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(run_wrk, process.url, bodies=bodies, connections=16, seconds=12)
        time.sleep(1)
        body = {"version": version, "allow_synthetic": True}
        response = client.post("/promote", json=body)
        report: WrkReport = load.result()
    return {**asdict(report), "promoted": response.status_code == 200}


def _memory(folder: Path) -> dict[str, float]:
    """Return the memory after 20,000 and after 500,000 further requests, in MB."""
    server = this_service()
    with running(replace(server, name="ours-memory"), folder) as process:
        bodies = _bodies(folder, server)
        _send(process, bodies, 20_000)
        before = process.resident_mb()
        sent = _send(process, bodies, 500_000)
        return {"before": before, "after": process.resident_mb(), "requests": float(sent)}


def _send(process: RunningServer, bodies: Path, number: int) -> int:
    """Send at least this many requests; return how many were sent."""
    sent = 0
    while sent < number:
        sent += run_wrk(process.url, bodies=bodies, connections=16, seconds=10).requests
    return sent


def connections_of(results: Results) -> Sequence[int]:
    """Return the numbers of connections that were measured."""
    return [int(number) for number in results.loads["ours"]]
