"""python -m benchmarks.bulk: files of pupils scored, beside the plain loop and the limits.

Prints the Markdown of docs/scaling.md, section "Bulk scoring". Ten million rows take about five
minutes on two cores, and three gigabytes of disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import psutil

from benchmarks.measure import print_progress
from student_success.core.configuration.settings import Settings
from student_success.core.paths import ROOT
from student_success.domain.students import FEATURE_NAMES, FEATURES

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
PEER_ROWS = 1_000_000
PEER_CHUNK = 10_000
"""The plain loop's best: with 1,000 rows a chunk it takes twice as long, with 100,000 no less."""
SAMPLED_SECONDS = 0.05
BLOCK = 100_000


@dataclass(frozen=True)
class Run:
    """One program's run: wall clock and processor seconds, and the highest memory of its tree."""

    name: str
    rows: int
    seconds: float
    cpu_seconds: float
    peak_mb: float

    def line(self) -> str:
        """Return a row of the table."""
        return (
            f"| {self.name} | {self.rows:,} | {self.seconds:,.1f} | "
            f"{self.rows / self.seconds:,.0f} | {self.cpu_seconds / self.rows * 1e6:.2f} | "
            f"{self.peak_mb:,.0f} |"
        )

    def extended(self, small: Run, rows: int) -> Run:
        """Return what more rows would take, each as many as those beyond a small run took."""
        more = (rows - self.rows) / (self.rows - small.rows)
        return Run(
            f"{self.name}, from {self.rows:,} rows",
            rows,
            self.seconds + more * (self.seconds - small.seconds),
            self.cpu_seconds + more * (self.cpu_seconds - small.cpu_seconds),
            self.peak_mb,
        )


def main() -> int:
    """Measure and print; 1 if an aim was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__)
    parser.add_argument("--rows", type=int, default=SIZES[-1], help="of the largest file")
    parser.add_argument("--folder", type=Path, help="where to put the files; removed afterwards")
    parser.add_argument("--peer", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--limit", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peer:
        return _peer(*map(Path, asked.peer[:3]), writes=asked.peer[3] == "writes")
    if asked.limit:
        return _through_arrow(*map(Path, asked.limit))
    with tempfile.TemporaryDirectory(prefix="student-success-bulk-", dir=asked.folder) as scratch:
        return _measure(Path(scratch), [size for size in SIZES if size <= asked.rows])


def _measure(folder: Path, sizes: list[int]) -> int:
    print_progress("fitting the model")
    model = _model(folder)
    ours: list[Run] = []
    peers: list[Run] = []
    limits: list[Run] = []
    for size in sizes:
        pupils, out = folder / "pupils.csv", folder / "out.csv"
        print_progress(f"making {size:,} pupils")
        write_pupils(pupils, size)
        print_progress("scoring them")
        runs = []
        for _ in range(1 if size > 1_000_000 else 3):
            # A file that was scored before is skipped.
            out.unlink(missing_ok=True)
            runs.append(_run("this service, CSV", size, _score(pupils, out, model)))
        ours.append(sorted(runs, key=lambda run: run.seconds)[len(runs) // 2])
        if size == sizes[-1]:
            limits.append(_run("read and write alone: Arrow", size, _limit(pupils, out)))
            limits.append(_run("read and write alone: `cp`", size, _copy(pupils, out, folder)))
            ours.append(_parquet(folder, pupils, size, model))
    for writes in ("writes", "reads"):
        name = "the plain loop" + (", without writing" if writes == "reads" else "")
        print_progress(name)
        runs = []
        for rows in (SIZES[0], PEER_ROWS):
            write_pupils(folder / "peer.csv", rows)
            runs.append(_run(name, rows, _loop(folder, writes)))
        peers.append(runs[1].extended(runs[0], sizes[-1]))
    print(_page(ours, peers, limits, sizes[-1]))
    return 0


def _page(ours: list[Run], peers: list[Run], limits: list[Run], most: int) -> str:
    head = "| what | rows | seconds | rows/s | processor µs a row | peak memory, MB |"
    largest = next(run for run in ours if run.rows == most)
    times = {
        peer.name: (peer.seconds / peer.rows) / (largest.seconds / largest.rows) for peer in peers
    }
    cpu = {
        peer.name: (peer.cpu_seconds / peer.rows) / (largest.cpu_seconds / largest.rows)
        for peer in peers
    }
    before, last = ours[len([run for run in ours if "CSV" in run.name]) - 2], largest
    lines = [
        head,
        "|---|---|---|---|---|---|",
        *(run.line() for run in ours),
        *(run.line() for run in peers),
        *(run.line() for run in limits),
        "",
        f"Measured on {os.cpu_count()} cores. Where others used them too, the processor's time "
        f"says more than the clock. The loop reads {PEER_CHUNK:,} rows at a time, has one process, "
        "and answers with the grade alone; its time for more rows is extrapolated.",
        "",
        *(
            f"- {times[name]:.1f} times as fast as {name} by the clock; a row takes "
            f"1/{cpu[name]:.1f} of its processor time."
            for name in times
        ),
    ]
    if before is not last:
        more = (last.cpu_seconds - before.cpu_seconds) / (last.rows - before.rows) * 1e6
        lines.append(f"- Each further row takes {more:.2f} µs of processor time.")
    return "\n".join(lines)


def _run(name: str, rows: int, command: list[str]) -> Run:
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=_environment())
    peak = 0.0
    watched = psutil.Process(process.pid)
    ended = 0
    while not ended:
        peak = max(peak, _memory_mb(watched))
        time.sleep(SAMPLED_SECONDS)
        # Of this process and those it waited for, and of no other child of ours.
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{name} ended with {process.returncode}")
    return Run(name, rows, seconds, used.ru_utime + used.ru_stime, peak)


def _memory_mb(process: psutil.Process) -> float:
    """Return the resident memory of a process and all below it; shared pages count each time."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        return 0.0
    return total / 1e6


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _score(pupils: Path, out: Path, model: Path) -> list[str]:
    command = [sys.executable, "-m", "student_success", "score", str(pupils), str(out)]
    return [*command, f"--model={model}", "--overwrite"]


def _loop(folder: Path, writes: str) -> list[str]:
    files = [str(folder / name) for name in ("champion.joblib", "peer.csv", "peer-out.csv")]
    return [sys.executable, "-m", "benchmarks.bulk", "--peer", *files, writes]


def _limit(pupils: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.bulk", "--limit", str(pupils), str(out)]


def _copy(pupils: Path, out: Path, folder: Path) -> list[str]:
    code = f"cp '{pupils}' '{folder}/copy-1' && cp '{out}' '{folder}/copy-2'"
    return ["sh", "-c", f"{code}; rm -f '{folder}'/copy-*"]


def _parquet(folder: Path, pupils: Path, size: int, model: Path) -> Run:
    from pyarrow import csv, parquet

    said = folder / "pupils.parquet"
    with csv.open_csv(pupils) as rows, parquet.ParquetWriter(said, rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)
    run = _run("this service, Parquet", size, _score(said, folder / "out.parquet", model))
    said.unlink()
    return run


def _model(folder: Path) -> Path:
    """Fit the forest on the sample; return its serving folder; the estimator is beside it."""
    from training import train
    from training.data.dataset import SAMPLE, read

    candidate = train.run(Settings(), family="boosting", budget_seconds=1, dataset=read(SAMPLE))
    joblib.dump(candidate.pipeline, folder / "champion.joblib")
    return Path(shutil.move(candidate.serving, folder / "serving"))


def _peer(model: Path, pupils: Path, out: Path, *, writes: bool) -> int:
    """Do what one does without this service."""
    import pandas as pd

    pipeline = joblib.load(model)
    with out.open("w") as file:
        for chunk in pd.read_csv(pupils, chunksize=PEER_CHUNK):
            chunk["predicted_G3"] = pipeline.predict(chunk[list(FEATURE_NAMES)])
            if writes:
                chunk[["reference", "predicted_G3"]].to_csv(file, index=False, header=False)
    return 0


def _through_arrow(pupils: Path, out: Path) -> int:
    """Read the pupils and write the answers that are there already, with nothing in between."""
    from pyarrow import csv

    with csv.open_csv(pupils) as rows:
        for _ in rows:
            pass
    again = out.with_name("again.csv")
    with csv.open_csv(out) as rows, csv.CSVWriter(again, rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)
    again.unlink()
    return 0


def write_pupils(path: Path, rows: int, *, seed: int = 1) -> None:
    """Write made-up pupils, a third of them at each horizon."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(["reference", *FEATURE_NAMES]) + "\n")
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            known = rng.integers(3, size=count)
            columns = [[f"P-{number:08d}" for number in range(start, start + count)]]
            for feature in FEATURES:
                if feature.kind == "category":
                    columns.append(rng.choice(feature.categories, size=count).tolist())
                elif feature.kind == "integer":
                    low, high = int(feature.low or 0), min(int(feature.high or 0), 40)
                    columns.append(list(map(str, rng.integers(low, high + 1, size=count).tolist())))
                else:
                    needed = 1 if feature.name == "G1" else 2
                    grades = (rng.integers(0, 201, size=count) / 10).tolist()
                    columns.append(
                        [
                            str(grade) if here >= needed else ""
                            for grade, here in zip(grades, known.tolist(), strict=True)
                        ]
                    )
            file.write("\n".join(map(",".join, zip(*columns, strict=True))) + "\n")


if __name__ == "__main__":
    sys.exit(main())
