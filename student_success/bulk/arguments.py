"""The command line of bulk scoring; apart, for no other command needs what scoring imports."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    command.add_argument(
        "input", type=_absolute, metavar="IN", help="CSV or Parquet file, or folder"
    )
    command.add_argument(
        "output", type=_absolute, metavar="OUT", help="file (the ending says which kind), or folder"
    )
    command.add_argument("--engine", choices=("local", "dask"), default="local")
    command.add_argument(
        "--scheduler", metavar="ADDRESS", help="of the Dask cluster, e.g. tcp://host:8786"
    )
    command.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes; as many as there are cores if not given",
    )
    command.add_argument(
        "--model",
        metavar="MODEL",
        help="a version that was deployed, `seed`, or a folder; else what the service serves",
    )
    command.add_argument(
        "--with-inputs", action="store_true", help="repeat the columns of the input"
    )
    command.add_argument(
        "--to", choices=("csv", "parquet"), help="kind of the answers, of a folder"
    )
    command.add_argument("--encoding", help="of CSV files; UTF-8, else Windows-1252, if not given")
    command.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")


def _absolute(text: str) -> Path:
    # The program goes to another folder; where it was started counts.
    return Path(text).expanduser().absolute()
