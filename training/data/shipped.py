"""Whether this process works with the profile that ships; some things are about its pupils only."""

from __future__ import annotations

from functools import cache

from student_success.core.errors import ConfigurationError
from student_success.domain.profile_file import shipped_profile
from student_success.domain.recorded_profile import differences
from student_success.domain.students import PROFILE


@cache
def is_shipped_profile() -> bool:
    """Return whether the profile describes the same columns and scale as the one that ships."""
    return not differences(PROFILE, shipped_profile())


def require_shipped_profile(result: str) -> None:
    """Refuse what is only about the pupils of the profile that ships.

    Parameters
    ----------
    result
        What was to be made, e.g. ``"The synthetic sample"``.

    Raises
    ------
    ConfigurationError
        If the profile is another one.
    """
    if not is_shipped_profile():
        raise ConfigurationError(
            f"{result} was not made: it is about the pupils of the profile that ships, and the "
            f"profile in use is {PROFILE.name}. Unset PROFILE_PATH to make it."
        )
