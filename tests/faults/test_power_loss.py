"""With HISTORY_SYNCHRONOUS=FULL a prediction is on disk before its response is sent.

`strace` shows each write to SQLite's write-ahead log, each `fdatasync` of it, and each answer on
its way to the client, in the order in which they happened.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from benchmarks.load import Load, LoadResult, single_predictions
from tests.faults.promise_counts import counts, repetitions
from tests.server import Server

pytestmark = pytest.mark.faults

PROMISE = "with synchronous=FULL, not after a power loss either"
ANSWERS = repetitions(200, full=2000)
CALLS = "pwrite64,write,writev,sendto,sendmsg,fdatasync,fsync"
SHOWN_BYTES = 8192
"""More than a page of the database and the header before it in the log."""

LINE = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(.*)$")
WAL = re.compile(r"^\(\d+<[^>]*-wal>")
SOCKET = re.compile(r"^\(\d+<socket:\[(\d+)\]>, ")
SENDING = {"write", "writev", "sendto", "sendmsg"}


@dataclass(frozen=True)
class Trace:
    """Line numbers of what happened."""

    written: list[tuple[int, str]]
    """A page went to the log: when it was done, and the page."""
    synced: list[tuple[int, int]]
    """The log was made to reach the disk: when that began, and when it was done."""
    sent: list[tuple[int, str]]
    """Something went to a client: when it began, and what."""

    @classmethod
    def of(cls, lines: Iterable[str]) -> Trace:
        trace = cls([], [], [])
        begun: dict[str, tuple[int, str]] = {}
        heads: dict[str, int] = {}
        for number, line in enumerate(lines):
            if not (match := LINE.match(line)):
                continue
            process, call, rest = match.groups()
            start = number
            resumed = rest.startswith(" resumed>")
            if resumed:
                start, before = begun.pop(process)
                rest = before + rest.removeprefix(" resumed>")
            elif call in SENDING and (client_socket := SOCKET.match(rest)):
                # What is sent may arrive before the call returns; the head goes before the body.
                if "HTTP/1.1 " in rest[client_socket.end() : client_socket.end() + 40]:
                    heads[client_socket[1]] = number
                trace.sent.append((heads.get(client_socket[1], number), rest))
            if rest.endswith("<unfinished ...>"):
                begun[process] = number, rest.removesuffix("<unfinished ...>")
            elif call == "pwrite64" and WAL.match(rest):
                trace.written.append((number, rest))
            elif call in {"fdatasync", "fsync"} and WAL.match(rest):
                assert rest.rstrip().endswith("= 0"), line
                trace.synced.append((start, number))
        return trace

    def unsynced(self, prediction_ids: Iterable[str]) -> list[str]:
        """Return those that were sent before the disk had them, or cannot be found."""
        return [one for one in prediction_ids if not self._had(one)]

    def _had(self, prediction_id: str) -> bool:
        written = next((at for at, page in self.written if prediction_id in page), None)
        sent = next((at for at, text in self.sent if prediction_id in text), None)
        if written is None or sent is None:
            return False
        return any(written < begun and done < sent for begun, done in self.synced)


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """Return a function's server to be watched, and where to."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    server = Server(tmp_path / "state", WORKERS="1", HISTORY_SYNCHRONOUS="FULL")
    yield server, tmp_path / "trace"
    server.stop()


def watch(server: Server, trace: Path, *, answers: int) -> LoadResult:
    """Predict while the worker's system calls are written down."""
    server.start()
    [worker] = server.workers()
    strace = subprocess.Popen(
        [
            *("strace", "-f", "-y", "-s", str(SHOWN_BYTES), "-e", f"trace={CALLS}"),
            *("-o", str(trace), "-p", str(worker.pid)),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        attached(strace, worker)
        with Load(server.port, clients=4, requests=single_predictions) as load:
            load.wait_for(answers)
    finally:
        if strace.poll() is None:
            strace.send_signal(signal.SIGINT)
        strace.communicate(timeout=30)
    return load.result


def attached(strace: subprocess.Popen[str], worker: psutil.Process) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if strace.poll() is not None:
            assert strace.stderr is not None
            pytest.skip(f"strace may not look into processes here: {strace.stderr.read().strip()}")
        status = Path(f"/proc/{worker.pid}/status").read_text()
        if f"TracerPid:\t{strace.pid}" in status:
            return
        time.sleep(0.02)
    raise AssertionError("strace did not attach")


def test_wal_is_synced_before_response_is_sent_with_synchronous_full(
    traced: tuple[Server, Path],
) -> None:
    server, path = traced
    result = watch(server, path, answers=ANSWERS)
    trace = Trace.of(path.read_text("latin-1").splitlines())
    early = trace.unsynced(result.acknowledged)
    counts.add(
        promise=PROMISE,
        requests=result.requests,
        acknowledged=result.statuses[200],
        lost=len(early),
    )
    assert result.statuses[200] >= ANSWERS
    assert set(result.statuses) == {200}
    assert not early


def test_response_does_not_wait_for_disk_with_synchronous_normal(
    traced: tuple[Server, Path],
) -> None:
    """The same eyes see the difference, so they would see a missing `fdatasync`, too."""
    server, path = traced
    server.settings["HISTORY_SYNCHRONOUS"] = "NORMAL"
    result = watch(server, path, answers=50)
    trace = Trace.of(path.read_text("latin-1").splitlines())
    assert len(trace.unsynced(result.acknowledged)) > len(result.acknowledged) // 2
