"""Run a training command: `python -m training COMMAND`; the commands are in `training.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from student_success.core.errors import StudentSuccessError
from student_success.core.logging import configure
from student_success.core.settings import Settings
from student_success.core.subprocesses import bind_to_parent, say, speaking
from training import commands

EXIT_REFUSED = 2


def prepare(args: argparse.Namespace) -> str:
    """Download the two UCI files, or read local copies, and merge them."""
    facts = commands.prepare(source=args.source, destination=args.to, url=args.url)
    published = "as published" if facts["as_published"] else "NOT byte for byte those published"
    return (
        f"{facts['path']}: {facts['rows']} pupils, SHA-256 {facts['sha256']}\n"
        f"Source files: {published}."
    )


def sample(args: argparse.Namespace) -> str:
    """Generate the synthetic sample, identical to the file that ships with the project."""
    return "{path}: {rows} synthetic pupils".format_map(commands.sample(destination=args.to))


def dictionary(args: argparse.Namespace) -> str:
    """Write the data dictionary from the features."""
    return "{path}: written".format_map(commands.dictionary(destination=args.to))


def seed(args: argparse.Namespace) -> str:
    """Train the seed model, which is committed, on the real data."""
    return (
        "{path}: {best_model}, MAE {test_mae:.3f} and R² {test_r2:.3f} with both period grades, "
        "in {duration_seconds:.0f} s"
    ).format_map(commands.seed(Settings()))


def report(args: argparse.Namespace) -> str:
    """Measure the model at length on the real data and write docs/model-report.md."""
    facts = commands.report(Settings(), destination=args.to, uci=args.source, quick=args.quick)
    return "{path}: written".format_map(facts)


def run(args: argparse.Namespace) -> str:
    """Train a candidate and register it; reports in JSON lines."""
    settings = Settings()
    if args.scheduler:
        settings = settings.model_copy(update={"train_scheduler": args.scheduler})
    return _report_json(
        lambda progress: commands.train(
            settings,
            family=args.family,
            budget_seconds=args.budget_seconds,
            champion=args.champion,
            with_outcomes=args.with_outcomes,
            progress=progress,
        ),
        settings,
        patient=True,
    )


def compare(args: argparse.Namespace) -> str:
    """Evaluate a candidate against another champion; reports in JSON lines."""
    settings = Settings()
    return _report_json(
        lambda _: commands.compare(settings, candidate=args.candidate, champion=args.champion),
        settings,
    )


def _report_json(
    command: Callable[[commands.Progress], commands.Facts],
    settings: Settings,
    *,
    patient: bool = False,
) -> str:
    # Before the long imports of the command: this process must not outlive its parent.
    bind_to_parent()
    with speaking(patient=patient) as stream:
        configure(settings)
        facts = command(
            lambda share, step: say(stream, "progress", share=round(share, 3), doing=step)
        )
        say(stream, "result", **facts)
    return ""


def parser() -> argparse.ArgumentParser:
    """Describe the commands; each sets `handler`."""
    whole = argparse.ArgumentParser(
        prog="python -m training", description="From pupils' data to a model that may be promoted."
    )
    subparsers = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(handler: Callable[[argparse.Namespace], str]) -> argparse.ArgumentParser:
        command = subparsers.add_parser(
            handler.__name__, help=handler.__doc__, description=handler.__doc__
        )
        command.set_defaults(handler=handler)
        return command

    command = add(prepare)
    command.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="folder with local copies"
    )
    command.add_argument("--to", type=Path, metavar="FILE", help="default: data/final.csv")
    command.add_argument("--url", help="another address of the archive of UCI data set 320")

    command = add(sample)
    command.add_argument("--to", type=Path, metavar="FILE", help="default: data/sample.csv")

    command = add(dictionary)
    command.add_argument("--to", type=Path, metavar="FILE", help="default: data/README.md")

    command = add(run)
    command.add_argument("--family", help="try this family only")
    command.add_argument("--budget-seconds", type=float, metavar="SECONDS")
    command.add_argument(
        "--champion", type=Path, metavar="DIR", help="served artefact to compare with"
    )
    command.add_argument(
        "--with-outcomes",
        action="store_true",
        help="also learn from pupils of the history whose final grade is known",
    )
    command.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="Dask scheduler to run on, e.g. tcp://host:8786; default: TRAIN_SCHEDULER, or this "
        "machine",
    )

    command = add(compare)
    command.add_argument("--candidate", type=Path, metavar="DIR", required=True)
    command.add_argument("--champion", type=Path, metavar="DIR", required=True)

    add(seed)

    command = add(report)
    command.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="folder with the two UCI files"
    )
    command.add_argument(
        "--to", type=Path, metavar="DIR", default=Path("docs"), help="default: docs"
    )
    command.add_argument("--quick", action="store_true", help="one repeat of each protocol")
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 with the reason on standard error."""
    args = parser().parse_args(argv)
    try:
        message = args.handler(args)
        if message:
            print(message)
    except StudentSuccessError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        for detail in error.details:
            print(f"  {_line(detail)}", file=sys.stderr)
        return EXIT_REFUSED
    except ValidationError as error:
        print("Error: the settings are not valid.", file=sys.stderr)
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            name = ".".join(str(part) for part in problem["loc"]).upper() or "SETTINGS"
            print(f"  {name}: {problem['msg']}", file=sys.stderr)
        return EXIT_REFUSED
    return 0


def _line(detail: Mapping[str, Any]) -> str:
    """Return one detail of an error as a line: the place, then the problem."""
    place = ", ".join(f"{key} {value}" for key, value in detail.items() if key != "problem")
    return f"{place}: {detail['problem']}" if "problem" in detail else place


if __name__ == "__main__":
    sys.exit(main())
