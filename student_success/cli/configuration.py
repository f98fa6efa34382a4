"""Write `docs/configuration.md` from the declarations of the settings."""

from __future__ import annotations

from collections.abc import Iterator

from student_success.core.configuration.names import GROUPS, INTERNAL, REMOVED, RENAMED
from student_success.core.configuration.settings import Settings

_HEAD = """\
# Configuration

<!-- Made by `student-success configuration` from student_success/core/configuration: edit that. -->

Each setting is an environment variable. It may also stand in a file `.env`, one `NAME=value` per
line. Two such files are read, if they exist: `.env` in the folder where the command is started, and
`STATE_DIR/.env`. The environment wins over the first file, and the first file over the second.
Relative paths start at the folder where the command is started. An empty value means the default.
A setting that is not valid is named when the service starts, and nothing is started. A name in
`.env` that is no setting but similar to one causes a warning, for example `API_TOKN`.

`student-success serve` creates a missing `ADMIN_TOKEN`: in `.env` of the checkout if it is started
there, else in `STATE_DIR/.env`. The names of the compose stack are in `.env.example`.

`STATE_DIR` must be a folder of its own. Only its owner can read it: folders have mode 0700 and
files 0600, whatever the umask. Wider modes are corrected at the start of the server and of most
commands, with a warning.
"""
_SHOWN_DEFAULTS = {"seed_model_path": "the one that ships", "state_dir": "XDG state folder"}


def markdown() -> str:
    """Return the whole document."""
    return "\n".join([_HEAD.rstrip(), *_tables(), *_names()]) + "\n"


def _tables() -> Iterator[str]:
    titles = {first: title for title, first in GROUPS.items()}
    for name, field in Settings.model_fields.items():
        if name in titles:
            yield from ("", f"## {titles[name]}", "")
            yield from ("| name | default | meaning |", "|---|---|---|")
        if name not in INTERNAL:
            yield f"| `{name.upper()}` | {_default(name)} | {field.description} |"


def _default(name: str) -> str:
    if name in _SHOWN_DEFAULTS:
        return _SHOWN_DEFAULTS[name]
    value = Settings.model_fields[name].default
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _names() -> Iterator[str]:
    yield from ("", "## Old names", "")
    renamed = ", ".join(f"`{old}` (now `{new}`)" for old, new in RENAMED.items())
    yield f"These still work, with a warning: {renamed}."
    yield ""
    removed = ", ".join(f"`{name}`" for name in REMOVED)
    yield f"These have no effect any more and only cause a warning: {removed}."
