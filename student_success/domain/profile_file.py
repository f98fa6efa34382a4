"""Read a profile from its TOML file, and say in words what is wrong with it."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from student_success.core.errors import ConfigurationError
from student_success.core.paths import SHIPPED_PROFILE
from student_success.domain.profile import FeatureSpec, Period, Profile

MAX_BYTES = 1 << 20


def read_profile(path: Path) -> Profile:
    """Read and check a profile.

    Raises
    ------
    ConfigurationError
        With one sentence a problem: file, line where known, key, and what is wrong.
    """
    name = path.name
    try:
        content = path.read_bytes()
        if len(content) > MAX_BYTES:
            raise ConfigurationError(f"{name} is larger than 1 MB: it is not a profile.")
        return parse_profile(name, content.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"The profile {name} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{name} is not UTF-8 text: save it as UTF-8.") from error


def parse_profile(name: str, text: str) -> Profile:
    """Check the text of a profile; `name` is that of its file. Raises as `read_profile`."""
    try:
        profile = Profile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{name} is not valid TOML: {error}.") from error
    except ValidationError as error:
        problems = [_problem(name, text, item) for item in error.errors(include_url=False)]
        raise ConfigurationError(
            f"{name} is not a usable profile:\n" + "\n".join(problems),
            details=[{"problem": problem} for problem in problems],
        ) from error
    specs: tuple[FeatureSpec | Period, ...] = (*profile.feature, *profile.period)
    for spec in specs:
        value = profile.example.get(spec.column)
        if spec.column in profile.example and not _allows(profile, spec, value):
            raise ConfigurationError(
                f"{name} is not a usable profile: the [example] has {spec.column} = {value}, which "
                "no pupil can have. Correct or remove it."
            )
    return profile


def _allows(profile: Profile, spec: FeatureSpec | Period, value: Any) -> bool:
    """Return whether a pupil can have a value of a feature or a period."""
    if isinstance(spec, FeatureSpec) and spec.kind == "category":
        return value in [choice.value for choice in spec.choices]
    low = profile.grade.minimum if spec.minimum is None else spec.minimum
    high = profile.grade.maximum if spec.maximum is None else spec.maximum
    is_whole = isinstance(spec, FeatureSpec) and spec.kind == "integer"
    is_number = isinstance(value, int | float) and low <= value <= high
    return is_number and not (is_whole and value % 1)


@cache
def shipped_profile() -> Profile:
    """Return the profile that ships."""
    return read_profile(SHIPPED_PROFILE)


def _problem(name: str, text: str, error: Any) -> str:
    loc = [part for part in error["loc"] if part not in {"integer", "number", "category"}]
    line = _line(text, loc)
    key = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in loc)
    where = f"{name}, line {line}" if line else name
    remedy = {
        "extra_forbidden": "there is no such key: remove it or check its spelling",
        "missing": "is missing",
    }.get(error["type"], str(error["msg"]).removeprefix("Value error, "))
    return f"{where}: {key}: {remedy}." if key else f"{where}: {remedy}."


def _line(text: str, loc: list[Any]) -> int | None:
    """Return the line of a table or key, counted from 1; None if it is not found."""
    if not loc:
        return None
    lines = text.splitlines()
    number = loc[1] if len(loc) > 1 and isinstance(loc[1], int) else 0
    header = re.compile(rf"\s*\[{{1,2}}{re.escape(str(loc[0]))}\]{{1,2}}")
    starts = [at for at, line in enumerate(lines) if header.match(line)]
    if number >= len(starts):
        key = re.compile(rf"\s*{re.escape(str(loc[0]))}\s*=")
        return next((at + 1 for at, line in enumerate(lines) if key.match(line)), None)
    start = starts[number]
    keys = [part for part in loc[1:] if isinstance(part, str)]
    if keys:
        key = re.compile(rf"\s*{re.escape(keys[0])}\s*=")
        for at in range(start + 1, len(lines)):
            if lines[at].lstrip().startswith("["):
                break
            if key.match(lines[at]):
                return at + 1
    return start + 1
