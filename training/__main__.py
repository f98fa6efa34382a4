"""`python -m training`: prepare data, make the sample, train, make the seed model, report.

A subcommand is one function: it takes its arguments and returns what to print. What it needs is
imported inside it, so that `--help` is quick and a command needs only its own libraries.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from student_success.core.errors import StudentSuccessError
from student_success.core.settings import Settings
from student_success.core.subprocesses import bind_to_parent

Handler = Callable[[argparse.Namespace], str]
EXIT_REFUSED = 2


def prepare(args: argparse.Namespace) -> str:
    """Fetch or take the two UCI files and merge them."""
    from training.data.dataset import FINAL
    from training.data.prepare import UCI_URL, prepare

    done = prepare(source_dir=args.source, destination=args.to or FINAL, url=args.url or UCI_URL)
    published = "as published" if done.as_published else "NOT byte for byte those published"
    return f"{done.path}: {done.rows} pupils, SHA-256 {done.sha256}\nSource files: {published}."


def sample(args: argparse.Namespace) -> str:
    """Make the synthetic sample again, byte for byte."""
    from training.data.dataset import SAMPLE
    from training.data.sample import write

    path = args.to or SAMPLE
    return f"{path}: {write(path)} synthetic pupils"


def dictionary(args: argparse.Namespace) -> str:
    """Render the data dictionary from the features."""
    from training.data.dictionary import DICTIONARY, write

    path = args.to or DICTIONARY
    write(path)
    return f"{path}: written"


def run(args: argparse.Namespace) -> str:
    """Train a candidate and register it; reports in JSON lines."""
    bind_to_parent()
    from training import commands as child

    child.run(read_settings(), args)
    return ""


def compare(args: argparse.Namespace) -> str:
    """Judge a candidate against another champion; reports in JSON lines."""
    bind_to_parent()
    from training import commands as child

    child.compare(read_settings(), args)
    return ""


def seed(args: argparse.Namespace) -> str:
    """Train the seed model, the one that is committed, on the real data."""
    from training import train

    made = train.make_seed(read_settings())
    return (
        f"{made.serving}: {made.best_model}, MAE {made.test_mae:.3f} and R² {made.test_r2:.3f} "
        f"with both period grades, in {made.duration_seconds:.0f} s"
    )


def report(args: argparse.Namespace) -> str:
    """Measure the model at length on the real data and write docs/model-report.md."""
    from training.report import report

    return f"{report.write(read_settings(), args.to, uci=args.source, quick=args.quick)}: written"


def parser() -> argparse.ArgumentParser:
    """Describe the subcommands; each sets `handler`."""
    whole = argparse.ArgumentParser(
        prog="python -m training", description="From pupils' data to a model that may be promoted."
    )
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, handler: Handler) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=handler.__doc__, description=handler.__doc__)
        command.set_defaults(handler=handler)
        return command

    command = add("prepare", prepare)
    command.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="folder with local copies"
    )
    command.add_argument("--to", type=Path, metavar="FILE", help="default: data/final.csv")
    command.add_argument("--url", help="where else the archive of UCI data set 320 lies")

    command = add("sample", sample)
    command.add_argument("--to", type=Path, metavar="FILE", help="default: data/sample.csv")

    command = add("dictionary", dictionary)
    command.add_argument("--to", type=Path, metavar="FILE", help="default: data/README.md")

    command = add("run", run)
    command.add_argument("--family", help="try this family only")
    command.add_argument("--budget-seconds", type=float, metavar="SECONDS")
    command.add_argument(
        "--champion", type=Path, metavar="DIR", help="served artefact to compare with"
    )
    command.add_argument(
        "--with-outcomes",
        action="store_true",
        help="learn also from pupils of the history whose grade is known",
    )

    command.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="Dask scheduler to run on, e.g. tcp://host:8786; default: TRAIN_SCHEDULER, else here",
    )

    command = add("compare", compare)
    command.add_argument("--candidate", type=Path, metavar="DIR", required=True)
    command.add_argument("--champion", type=Path, metavar="DIR", required=True)

    add("seed", seed)

    command = add("report", report)
    command.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="folder with the two UCI files"
    )
    command.add_argument(
        "--to", type=Path, metavar="DIR", default=Path("docs"), help="default: docs"
    )
    command.add_argument("--quick", action="store_true", help="one repeat of each protocol")
    return whole


def read_settings() -> Settings:
    """Read the settings for a command that needs them."""
    return Settings()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 with the reason in plain words on stderr."""
    args = parser().parse_args(argv)
    try:
        told = args.handler(args)
        if told:
            print(told)
    except StudentSuccessError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        for detail in error.details:
            print(f"  {_told(detail)}", file=sys.stderr)
        return EXIT_REFUSED
    except ValidationError as error:
        print("Error: the settings are not right.", file=sys.stderr)
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            name = ".".join(str(part) for part in problem["loc"]).upper() or "SETTINGS"
            print(f"  {name}: {problem['msg']}", file=sys.stderr)
        return EXIT_REFUSED
    return 0


def _told(detail: Mapping[str, Any]) -> str:
    """Put one particular of an error into a line: where, then what."""
    where = ", ".join(f"{key} {value}" for key, value in detail.items() if key != "problem")
    return f"{where}: {detail['problem']}" if "problem" in detail else where


if __name__ == "__main__":
    sys.exit(main())
