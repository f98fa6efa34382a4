"""Start a Dask scheduler and its workers, one process each."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from student_success.core.paths import ROOT
from student_success.core.subprocesses import die_with_parent
from tests.server import free_port

distributed = pytest.importorskip("distributed")

READY_SECONDS = 60.0


class DaskCluster:
    """A running cluster; started with `dask_cluster`."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._folder = folder
        self.scheduler = self._run("scheduler", "--port", self.address.rsplit(":", 1)[1])
        self.workers = [
            self._run(
                "worker",
                self.address,
                *("--nthreads", "1", "--nworkers", "1", "--no-nanny", "--name", f"worker-{number}"),
                *("--local-directory", str(folder)),
            )
            for number in range(workers)
        ]

    def _run(self, kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", kind, "--host", "127.0.0.1", "--no-dashboard"]
        with (self._folder / f"{kind}.log").open("ab") as log:
            return subprocess.Popen(
                [*command, *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def log(self) -> str:
        return "\n".join(path.read_text("utf-8", "replace") for path in self._folder.glob("*.log"))

    def wait(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            with (
                contextlib.suppress(OSError),
                distributed.Client(self.address, timeout=2, set_as_default=False) as client,
            ):
                client.wait_for_workers(len(self.workers), timeout=READY_SECONDS)
                return
        raise AssertionError(self.log())

    def kill_worker(self, number: int = 0) -> None:
        """Kill a worker."""
        self.workers[number].kill()
        self.workers[number].wait(10)

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait(10)


@contextlib.contextmanager
def dask_cluster(folder: Path, *, workers: int = 2) -> Iterator[DaskCluster]:
    """Run a cluster for the block."""
    cluster = DaskCluster(folder, workers)
    try:
        cluster.wait()
        yield cluster
    finally:
        cluster.close()
