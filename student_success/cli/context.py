"""What most commands need first: the settings and the database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from student_success.core.configuration.bento_home import use_bento_store
from student_success.core.configuration.settings import Settings
from student_success.core.errors import ConfigurationError, InvalidInputError
from student_success.core.paths import IS_CHECKOUT, ROOT, enter_root, start_folder
from student_success.core.state_files import protect

if TYPE_CHECKING:
    from sqlalchemy import Engine

Request = TypeVar("Request", bound=BaseModel)


def open_settings(*, private: bool = True) -> Settings:
    """Read the settings and enter `ROOT`; paths of arguments must be absolute by then.

    Parameters
    ----------
    private
        Keep other users from the state directory and from the files that this process creates.
        False for commands whose output files get the mode that the user's umask gives.
    """
    enter_root()
    settings = Settings()
    if private:
        protect(settings.state_dir)
    use_bento_store(settings)
    return settings


def require_extra(extra: str, *modules: str) -> None:
    """Raise `ConfigurationError` unless the modules that an extra brings are installed."""
    if any(find_spec(module) is None for module in modules):
        raise ConfigurationError(
            f"Nothing was done: this command needs the extra `{extra}`. Install it with "
            f"pip install 'student-success[{extra}]'."
        )


def make_request(model: type[Request], **values: Any) -> Request:
    """Validate the options of a command as the body of the request of the same name.

    Raises
    ------
    InvalidInputError
        If an option is not valid.
    """
    try:
        return model(**values)
    except ValidationError as error:
        problems = [
            {"option": ".".join(map(str, problem["loc"])), "problem": problem["msg"]}
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise InvalidInputError("An option is not valid.", details=problems) from None


def env_file_to_write(settings: Settings) -> Path:
    """Return the `.env` that gets missing secrets: the checkout's if started there."""
    if IS_CHECKOUT and start_folder() == ROOT:
        return ROOT / ".env"
    return settings.state_dir / ".env"


@contextlib.contextmanager
def open_database(settings: Settings) -> Iterator[Engine]:
    """Yield the database for control data, with the schema up to date."""
    from student_success.domain.recorded_profile import claim_state_dir
    from student_success.storage.engine import connect
    from student_success.storage.migrate import migrate

    claim_state_dir(settings.state_dir)
    migrate(settings.database, state_dir=settings.state_dir)
    engine = connect(settings.database, synchronous="FULL")
    try:
        yield engine
    finally:
        engine.dispose()
