"""python -m benchmarks [--quick] [--write]: measure, and say what was found."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import models, report
from benchmarks.measure import QUICK, WHOLE, measure, say
from student_success.core.settings import ROOT


def main() -> int:
    """Run; 1 if an aim was missed, 2 if it cannot run here."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes, one round")
    parser.add_argument(
        "--write", action="store_true", help="write docs/benchmarks.md and its plot"
    )
    parser.add_argument("--rounds", type=int, help="how often each is loaded")
    parser.add_argument("--seconds", type=float, help="how long each time")
    asked = parser.parse_args()
    for tool in ("wrk", "taskset"):
        if shutil.which(tool) is None:
            print(f"{tool} is needed; `make bench` installs it where it may", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory(prefix="student-success-bench-") as scratch:
        folder = Path(scratch)
        say("fitting the models")
        models.make(folder)
        plan = QUICK if asked.quick else WHOLE
        results = measure(
            folder,
            replace(
                plan,
                rounds=asked.rounds or plan.rounds,
                seconds=asked.seconds or plan.seconds,
                slow_seconds=3 * asked.seconds if asked.seconds else plan.slow_seconds,
            ),
        )
    page = report.markdown(results)
    print(page)
    if asked.write:
        docs = ROOT / "docs"
        (docs / "img").mkdir(parents=True, exist_ok=True)
        (docs / "benchmarks.md").write_text(page, encoding="utf-8")
        (docs / "benchmarks.json").write_text(json.dumps(asdict(results), indent=1), "utf-8")
        report.plot(results, docs / "img" / "benchmarks.png")
    return 0 if all(aim.met for aim in report.aims(results)) else 1


if __name__ == "__main__":
    sys.exit(main())
