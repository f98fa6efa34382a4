"""Read the settings for `bentoml serve`, which would show a traceback for an invalid one."""

from __future__ import annotations

import importlib
import sys

from pydantic import ValidationError

from student_success.core.configuration.settings import Settings, setting_problems
from student_success.core.errors import ConfigurationError


def settings_or_exit() -> Settings:
    """Return the settings; exit with status 2 if one of them, or the profile, is not valid.

    The profile is read when the modules of the domain are imported: call this before.
    """
    try:
        settings = Settings()
        importlib.import_module("student_success.domain.students")
    except ValidationError as error:
        problems = "; ".join(setting_problems(error))
        sys.stderr.write(f"Error: the settings are not valid. {problems}\n")
    except ConfigurationError as error:
        sys.stderr.write(f"Error: {error.message}\n")
    else:
        return settings
    sys.exit(2)
