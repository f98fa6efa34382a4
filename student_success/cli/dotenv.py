"""Add missing secrets to a `.env` file; change nothing else in it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from student_success.core.configuration.env_files import read_env_file

STACK_SECRETS = (
    "ADMIN_TOKEN",
    "GRAFANA_ADMIN_PASSWORD",
    "POSTGRES_PASSWORD",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
)
"""Names without which `docker-compose.yml` does not start."""


def names(path: Path, *, with_value: bool = True) -> set[str]:
    """Return the names in the file, only those that have a value by default.

    An absent file has no names.
    """
    values = read_env_file(path)
    return {name for name, value in values.items() if value or not with_value}


def add_secrets(path: Path, wanted: Iterable[str]) -> list[str]:
    """Add a random value for each name that has none, and let only the owner read the file.

    Returns
    -------
    list[str]
        The names that were added.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    present = names(path)
    missing = [name for name in wanted if name not in present]
    if not missing:
        return []
    # Created with mode 600, so that others can read it at no moment.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.seek(0)
        before = file.read()
        lines = "".join(f"{name}={secrets.token_urlsafe(32)}\n" for name in missing)
        file.write(("\n" if before and not before.endswith("\n") else "") + lines)
    return missing
