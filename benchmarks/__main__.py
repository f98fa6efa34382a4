"""python -m benchmarks [--quick] [--write]: measure the service beside others, print a report."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import compared_models, report
from benchmarks.measure import FULL, QUICK, measure, print_progress
from student_success.core.paths import ROOT


def main() -> int:
    """Measure and report; return 1 if a target was missed, 2 if a tool is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="measure one round, in about two minutes"
    )
    parser.add_argument(
        "--write", action="store_true", help="write docs/benchmarks.md and its plot"
    )
    parser.add_argument("--rounds", type=int, help="how often each server is loaded")
    parser.add_argument("--seconds", type=float, help="duration of each load")
    arguments = parser.parse_args()
    for tool in ("wrk", "taskset"):
        if shutil.which(tool) is None:
            print(
                f"{tool} is not installed. Nothing was measured. Run `make bench` as root once.",
                file=sys.stderr,
            )
            return 2
    with tempfile.TemporaryDirectory(prefix="student-success-bench-") as temporary_folder:
        folder = Path(temporary_folder)
        print_progress("fitting the models")
        compared_models.fit_models(folder)
        plan = QUICK if arguments.quick else FULL
        results = measure(
            folder,
            replace(
                plan,
                rounds=arguments.rounds or plan.rounds,
                seconds=arguments.seconds or plan.seconds,
                slow_seconds=3 * arguments.seconds if arguments.seconds else plan.slow_seconds,
            ),
        )
    page = report.markdown(results)
    print(page)
    if arguments.write:
        docs = ROOT / "docs"
        (docs / "img").mkdir(parents=True, exist_ok=True)
        (docs / "benchmarks.md").write_text(page, encoding="utf-8")
        (docs / "benchmarks.json").write_text(json.dumps(asdict(results), indent=1), "utf-8")
        report.plot(results, docs / "img" / "benchmarks.png")
    return 0 if all(target.met for target in report.targets(results)) else 1


if __name__ == "__main__":
    sys.exit(main())
