"""The folder of the program, and the folder where the command was started."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout; ``site-packages`` when the package is installed."""
SHIPPED_PROFILE = ROOT / "student_success" / "profiles" / "uci.toml"
IS_CHECKOUT = (ROOT / "pyproject.toml").is_file()

_FOLDER = "STUDENT_SUCCESS_FOLDER"


def start_folder() -> Path:
    """Return the folder where the command was started, also in its child processes."""
    return Path(os.environ.get(_FOLDER) or Path.cwd())


def enter_root() -> None:
    """Make `ROOT` the current folder, and remember the folder where the command was started.

    BentoML's workers and the child processes run in `ROOT`, so that no module of the caller's
    folder is imported in place of ours.
    """
    os.environ[_FOLDER] = str(start_folder())
    os.chdir(ROOT)
