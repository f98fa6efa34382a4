"""Load from wrk, pinned to a core of its own, and what it says."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from student_success.domain.students import FEATURES

LOAD_CORE = 1
_SCRIPT = """
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
class Load:
    """One run of the load generator; times in seconds."""

    requests: int
    rate: float
    p50: float
    p99: float
    failed: int


def pupils(number: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Make random valid pupils, grades at half points, in all three horizons."""
    chosen = random.Random(seed)
    found = []
    for _ in range(number):
        pupil: dict[str, Any] = {}
        for feature in FEATURES:
            if feature.kind == "category":
                pupil[feature.name] = chosen.choice(feature.categories)
            elif feature.kind == "integer":
                low, high = int(feature.low or 0), int(feature.high or 0)
                pupil[feature.name] = chosen.randint(low, min(30, high))
            else:
                pupil[feature.name] = chosen.randint(0, 40) / 2
        known = chosen.randint(0, 2)
        if known < 2:
            pupil["G2"] = None
        if known < 1:
            pupil["G1"] = None
        found.append(pupil)
    return found


def complete(pupils: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fill in grades, for peers that know no missing ones."""
    return [{**p, "G1": p["G1"] or 11.0, "G2": p["G2"] or 11.5} for p in pupils]


def write_bodies(path: Path, bodies: Sequence[Any]) -> Path:
    """Write one JSON body a line."""
    path.write_text("\n".join(json.dumps(body) for body in bodies) + "\n", encoding="utf-8")
    return path


def run(url: str, *, bodies: Path, connections: int, seconds: float) -> Load:
    """Send requests for some seconds, on one core."""
    script = bodies.with_suffix(".lua")
    script.write_text(_SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [
            "taskset",
            "-c",
            str(LOAD_CORE),
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
    return parse(done.stdout)


def parse(text: str) -> Load:
    """Read wrk's report."""
    requests = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if requests is None or rate is None:
        raise ValueError(f"not a report of wrk: {text!r}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    failed = int(refused.group(1)) if refused else 0
    failed += sum(int(number) for number in broken.groups()) if broken else 0
    return Load(
        requests=int(requests.group(1)),
        rate=float(rate.group(1)),
        p50=_quantile(text, "50"),
        p99=_quantile(text, "99"),
        failed=failed,
    )


def _quantile(text: str, which: str) -> float:
    found = re.search(rf"^\s+{which}%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    return float(found.group(1)) * _UNITS[found.group(2)] if found else float("nan")
