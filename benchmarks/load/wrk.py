"""Load from wrk, which reaches rates that Python cannot, and its report."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load.clients import MAX_SECONDS
from benchmarks.load.connection import LOOPBACK

MAX_CONNECTIONS = 1024
WRK_CORE = 1
_WRK_SCRIPT = """
local bodies = {}
for line in io.lines(os.getenv("BENCH_BODIES")) do bodies[#bodies + 1] = line end
local at = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  at = at % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[at])
end
"""
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class WrkReport:
    """Report of one run of wrk; `rate` in requests/s, `p50` and `p99` in seconds."""

    requests: int
    rate: float
    p50: float
    p99: float
    failed: int


def write_bodies(path: Path, bodies: Sequence[Any]) -> Path:
    """Write JSON bodies, one a line, for `run_wrk`."""
    path.write_text("\n".join(json.dumps(body) for body in bodies) + "\n", encoding="utf-8")
    return path


def run_wrk(url: str, *, bodies: Path, connections: int, seconds: float) -> WrkReport:
    """Send requests with wrk, pinned to one core.

    Parameters
    ----------
    url
        Address on the loopback interface.
    bodies
        File of `write_bodies`; its bodies are sent in turn.
    connections
        Number of connections, at most `MAX_CONNECTIONS`.
    seconds
        Duration, at most `MAX_SECONDS`.

    Raises
    ------
    ValueError
        If the address is not on the loopback interface, or a limit is exceeded.
    """
    if urllib.parse.urlsplit(url).hostname != LOOPBACK:
        raise ValueError(f"the load generator sends to {LOOPBACK} only, not to {url}")
    if not (0 < seconds <= MAX_SECONDS and 0 < connections <= MAX_CONNECTIONS):
        raise ValueError(
            f"at most {MAX_SECONDS:g} seconds and {MAX_CONNECTIONS} connections, "
            f"not {seconds:g} and {connections}"
        )
    script = bodies.with_suffix(".lua")
    script.write_text(_WRK_SCRIPT, encoding="utf-8")
    completed = subprocess.run(
        [
            "taskset",
            "-c",
            str(WRK_CORE),
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds:g}s",
            "--timeout=30s",
            "--latency",
            f"-s{script}",
            url,
        ],
        env={"BENCH_BODIES": str(bodies), "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    )
    return parse_wrk_report(completed.stdout)


def parse_wrk_report(text: str) -> WrkReport:
    """Parse the output of wrk.

    Raises
    ------
    ValueError
        If the text is not a report of wrk.
    """
    requests = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if requests is None or rate is None:
        raise ValueError(f"not a report of wrk: {text!r}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    failed = int(refused.group(1)) if refused else 0
    failed += sum(int(number) for number in errors.groups()) if errors else 0
    return WrkReport(
        requests=int(requests.group(1)),
        rate=float(rate.group(1)),
        p50=_quantile(text, "50"),
        p99=_quantile(text, "99"),
        failed=failed,
    )


def _quantile(text: str, percent: str) -> float:
    match = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    return float(match.group(1)) * _UNITS[match.group(2)] if match else float("nan")
