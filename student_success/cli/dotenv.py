"""The `.env` file: missing secrets are added to it, nothing in it is changed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

STACK_SECRETS = (
    "ADMIN_TOKEN",
    "GRAFANA_ADMIN_PASSWORD",
    "POSTGRES_PASSWORD",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
)
"""What `docker-compose.yml` refuses to start without."""


def names(path: Path) -> set[str]:
    """Return the names that have a value in the file; none if there is no file."""
    if not path.is_file():
        return set()
    pairs = (line.split("=", 1) for line in path.read_text("utf-8").splitlines() if "=" in line)
    return {
        name.strip().removeprefix("export ")
        for name, value in pairs
        if value.strip().strip("'\"") and not name.lstrip().startswith("#")
    }


def add_secrets(path: Path, wanted: Iterable[str]) -> list[str]:
    """Add a random value for each name that has none, and let the owner alone read the file.

    Returns
    -------
    list[str]
        The names that were added.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    missing = [name for name in wanted if name not in names(path)]
    if not missing:
        return []
    # Opened in mode 600 from the start: at no moment can others read it.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.seek(0)
        before = file.read()
        lines = "".join(f"{name}={secrets.token_urlsafe(32)}\n" for name in missing)
        file.write(("\n" if before and not before.endswith("\n") else "") + lines)
    return missing
