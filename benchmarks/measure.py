"""What is measured: interleaved rounds, then what only this service can be asked."""

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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks import load
from benchmarks.load import Load
from benchmarks.peers import SERVER_CORE, Peer, Running, ours, peers, running

_BEGUN = time.perf_counter()
SETTLE_SECONDS = 60.0
ADMIN = {"Authorization": "Bearer bench"}


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    rounds: int
    seconds: float
    connections: tuple[int, ...]
    slow_seconds: float
    """For peers that answer a dozen requests a second: what is unanswered at the end is lost."""
    slow: bool
    """Whether to include what takes minutes: a promotion, 500,000 requests, the second worker."""


QUICK = Plan(rounds=1, seconds=2.0, connections=(1, 16), slow_seconds=6.0, slow=False)
WHOLE = Plan(rounds=3, seconds=4.0, connections=(1, 16, 64), slow_seconds=12.0, slow=True)


@dataclass
class Results:
    """Everything that was measured, JSON-ready."""

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

    def rate(self, peer: str, connections: int) -> float:
        """Return the median requests/s."""
        return self._median(peer, connections, "rate")

    def p99(self, peer: str, connections: int) -> float:
        """Return the median p99 in seconds."""
        return self._median(peer, connections, "p99")

    def ready_after(self, peer: str) -> float:
        """Return the median time from start to the first answer, in seconds."""
        return statistics.median(self.ready[peer])

    def _median(self, peer: str, connections: int, what: str) -> float:
        runs = self.loads[peer][str(connections)]
        return statistics.median(run[what] for run in runs)


def measure(folder: Path, plan: Plan) -> Results:
    """Start everything, load it in turn, and ask ourselves the rest."""
    results = Results(plan=asdict(plan))
    _starts(results, folder, plan)
    with contextlib.ExitStack() as servers:
        up: list[tuple[Running, Path]] = []
        for peer in peers():
            if not (peer.quick or plan.slow):
                continue
            say(f"starting {peer.title}")
            server = servers.enter_context(running(peer, folder))
            results.titles[peer.name] = peer.title
            results.ready.setdefault(peer.name, [server.ready_seconds])
            up.append((server, _bodies(folder, peer)))
        for number in range(plan.rounds):
            # Each server in turn, again and again: what slows the machine slows all of them.
            for server, bodies in up:
                say(f"round {number + 1} of {plan.rounds}: {server.peer.title}")
                _round(results, server, bodies, plan)
        for server, _ in up:
            results.resident[server.peer.name] = server.resident_mb()
        say("batches")
        results.batch = _batches(up[0][0], folder, plan)
    results.image_mb = _image_mb()
    say("micro-costs")
    results.micro = _micro()
    say("a training and a promotion under load")
    results.during = _during(folder, plan)
    if plan.slow:
        say("two workers")
        with running(ours(workers=2), folder) as server:
            results.titles[server.peer.name] = server.peer.title
            results.ready[server.peer.name] = [server.ready_seconds]
            for _ in range(plan.rounds):
                _round(results, server, _bodies(folder, server.peer), plan)
            results.resident[server.peer.name] = server.resident_mb()
        say("memory over 500,000 requests")
        results.memory = _memory(folder)
    return results


def _starts(results: Results, folder: Path, plan: Plan) -> None:
    """Start ourselves and what we are compared with in turn, each alone on the machine."""
    say("starting and stopping")
    for _ in range(2 * plan.rounds - 1):
        for peer in peers():
            if peer.name in ("ours", "empty-bento"):
                with running(peer, folder) as server:
                    results.ready.setdefault(peer.name, []).append(server.ready_seconds)


def say(what: str) -> None:
    """Tell whoever waits."""
    print(f"{time.perf_counter() - _BEGUN:6.0f} s  {what}", file=sys.stderr, flush=True)


def _bodies(folder: Path, peer: Peer) -> Path:
    pupils = load.pupils(1000)
    if peer.complete:
        pupils = load.complete(pupils)
    return load.write_bodies(folder / f"{peer.name}.jsonl", [peer.wrap(p) for p in pupils])


def _round(results: Results, server: Running, bodies: Path, plan: Plan) -> None:
    seconds = plan.slow_seconds if server.peer.slow else plan.seconds
    for connections in plan.connections:
        run = load.run(server.url, bodies=bodies, connections=connections, seconds=seconds)
        by_connections = results.loads.setdefault(server.peer.name, {})
        by_connections.setdefault(str(connections), []).append(asdict(run))
        _settle(server)


def _settle(server: Running) -> None:
    """Wait until a server rests: a slow one works off what its load left behind, on our core."""
    end = time.monotonic() + SETTLE_SECONDS
    before = server.processor_seconds()
    while time.monotonic() < end:
        time.sleep(0.25)
        now = server.processor_seconds()
        if now - before < 0.05:
            return
        before = now


def _batches(server: Running, folder: Path, plan: Plan) -> dict[str, float]:
    """Return rows/s of `/predict_batch` by its size, one batch at a time."""
    found = {}
    url = f"http://127.0.0.1:{server.port}/predict_batch"
    for size in (100, 1000, 10_000):
        bodies = load.write_bodies(
            folder / f"batch-{size}.jsonl",
            [{"students": load.pupils(size, seed=seed)} for seed in range(3)],
        )
        runs = [
            load.run(url, bodies=bodies, connections=1, seconds=plan.seconds)
            for _ in range(plan.rounds)
        ]
        if any(run.failed for run in runs):
            raise RuntimeError("a batch was refused")
        found[str(size)] = size * statistics.median(run.rate for run in runs)
    return found


def _image_mb() -> float | None:
    """Return the size of the image that `make image` built; None where there is none."""
    if shutil.which("docker") is None:
        return None
    asked = ["docker", "image", "inspect", "student-success:latest", "--format", "{{.Size}}"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    return int(done.stdout) / 1e6 if done.returncode == 0 else None


def _micro() -> dict[str, float]:
    done = subprocess.run(
        ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "benchmarks.micro"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=dict(os.environ),
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _during(folder: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    """Load the service idle, while it trains, and across a promotion; on both cores."""
    found: dict[str, dict[str, Any]] = {}
    peer = ours()
    with running(
        Peer("ours-life", peer.title, peer.command, environment=peer.environment), folder
    ) as server:
        for process in server.tree():
            process.cpu_affinity([0, 1])
        bodies = _bodies(folder, peer)
        base = f"http://127.0.0.1:{server.port}"

        def loaded(goes_on: Callable[[], bool]) -> dict[str, Any]:
            runs: list[dict[str, Any]] = []
            while len(runs) < plan.rounds and goes_on():
                run = load.run(server.url, bodies=bodies, connections=1, seconds=plan.seconds)
                runs.append(asdict(run))
            return {name: statistics.median(run[name] for run in runs) for name in runs[0]}

        found["idle"] = loaded(lambda: True)
        with httpx.Client(base_url=base, headers=ADMIN, timeout=300) as client:
            budget = plan.rounds * plan.seconds
            asked = {"wait": False, "budget_seconds": budget + 2}
            job = client.post("/train", json=asked).json()["job_id"]

            def state() -> dict[str, Any]:
                answer: dict[str, Any] = client.get("/train", params={"job_id": job}).json()
                return answer

            found["training"] = loaded(lambda: state()["state"] == "running")
            if not plan.slow:
                return found
            while state()["state"] == "running":
                time.sleep(0.5)
            ended = state()
            if ended["state"] == "done":
                found["promotion"] = _across_promotion(
                    server, bodies, client, ended["result"]["version"]
                )
    return found


def _across_promotion(
    server: Running, bodies: Path, client: httpx.Client, version: int
) -> dict[str, Any]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        running_load = pool.submit(load.run, server.url, bodies=bodies, connections=16, seconds=12)
        time.sleep(1)
        answer = client.post("/promote", json={"version": version})
        run: Load = running_load.result()
    return {**asdict(run), "promoted": answer.status_code == 200}


def _memory(folder: Path) -> dict[str, float]:
    """Return the memory after 20,000 and after 500,000 further requests, in MB."""
    peer = ours()
    with running(
        Peer("ours-memory", peer.title, peer.command, environment=peer.environment), folder
    ) as server:
        bodies = _bodies(folder, peer)
        _send(server, bodies, 20_000)
        before = server.resident_mb()
        sent = _send(server, bodies, 500_000)
        return {"before": before, "after": server.resident_mb(), "requests": float(sent)}


def _send(server: Running, bodies: Path, number: int) -> int:
    sent = 0
    while sent < number:
        sent += load.run(server.url, bodies=bodies, connections=16, seconds=10).requests
    return sent


def connections_of(results: Results) -> Sequence[int]:
    """Return the numbers of connections that were measured."""
    return [int(number) for number in results.loads["ours"]]
