"""Find and read the two `.env` files."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv.parser import parse_stream
from platformdirs import user_state_path

from student_success.core.errors import ConfigurationError
from student_success.core.paths import SHIPPED_PROFILE, start_folder

ENV_ENCODING = "utf-8-sig"
"""UTF-8 with or without the byte order mark that editors on Windows write."""
_NO_UTF_8 = "Nothing was started: {} is not text in UTF-8. Save it again with that encoding."


def read_env_file(path: Path) -> dict[str, str | None]:
    """Return the names and values of a ``.env`` file; an absent file has none.

    Raises
    ------
    ConfigurationError
        If it is not text in UTF-8, has a line that is no setting, is a folder or cannot be read.
    """
    try:
        if path.is_dir():
            if (path / "pyvenv.cfg").exists():
                # A virtual environment.
                return {}
            raise ConfigurationError(
                f"Nothing was started: {path} is a folder. Put a file with settings in its place."
            )
        with path.open(encoding=ENV_ENCODING) as file:
            statements = list(parse_stream(file))
    except UnicodeDecodeError as error:
        raise ConfigurationError(_NO_UTF_8.format(path)) from error
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigurationError(
            f"Nothing was started: {path} cannot be read ({error.strerror})."
        ) from error
    for statement in statements:
        # UTF-16 without a byte order mark is valid UTF-8.
        if "\0" in statement.original.string:
            raise ConfigurationError(_NO_UTF_8.format(path))
        # It might be meant to be a token: without it the service would be open.
        if statement.error:
            raise ConfigurationError(
                f"Nothing was started: {path} cannot be read from line {statement.original.line} "
                "on. Write NAME=value there, and close each quote."
            )
    return {statement.key: statement.value for statement in statements if statement.key}


def env_files() -> tuple[Path, Path]:
    """Return the two ``.env`` files that are read; the second wins over the first."""
    here = start_folder() / ".env"
    state_dir = os.environ.get("STATE_DIR") or read_env_file(here).get("STATE_DIR")
    folder = Path(state_dir) if state_dir else user_state_path("student-success")
    # Unlike `Path.expanduser`, it leaves the name of an unknown user; `Settings` refuses that.
    return start_folder() / os.path.expanduser(folder) / ".env", here


def profile_path() -> Path:
    """Return the profile in use, without reading the other settings."""
    value = os.environ.get("PROFILE_PATH") or next(
        (v for path in env_files()[::-1] if (v := read_env_file(path).get("PROFILE_PATH"))), None
    )
    return (start_folder() / Path(value).expanduser()).resolve() if value else SHIPPED_PROFILE
