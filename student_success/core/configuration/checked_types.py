"""Types of settings whose values are checked or completed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from student_success.core.paths import start_folder

_MODEL_NAME = re.compile(r"[a-z0-9]([-._a-z0-9]{0,61}[a-z0-9])?")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,255}")
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
_ORIGIN = re.compile(
    r"(?!http://.*:80$|https://.*:443$)https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:\d{1,5})?"
)
_PICKLES = {".joblib", ".pkl", ".pickle"}


def _absolute(path: Path) -> Path:
    try:
        return (start_folder() / path.expanduser()).resolve()
    except RuntimeError:
        raise ValueError(
            "cannot be found: a link leads to itself, or the user after '~' is unknown"
        ) from None


def _no_pickles(path: Path) -> Path:
    if path.suffix.lower() in _PICKLES:
        raise ValueError(
            "SEED_MODEL_PATH points to a joblib pickle of the replaced application. Loading a "
            "pickle runs any code that it contains, so it was not loaded. Remove the setting "
            "to use the seed model of the package, or make one with `student-success seed`."
        )
    return path


def _path_for_database_urls(path: Path) -> Path:
    if not {"?", "%"}.isdisjoint(str(path)):
        raise ValueError("must not contain '?' or '%', which mean something else in a URL")
    return path


def _origins_as_browsers_send_them(origins: str) -> str:
    if origins and not all(_ORIGIN.fullmatch(part.strip()) for part in origins.split(",")):
        raise ValueError(
            "must be origins as browsers send them, separated by commas: http:// or https://, "
            "the host in small letters, and the port unless it is the scheme's own; no path, "
            "no final slash, no '*'"
        )
    return origins


def _name_for_both_stores(name: str) -> str:
    if not _MODEL_NAME.fullmatch(name):
        raise ValueError(
            "must be 1 to 63 small letters, digits, '-', '.' and '_', with a letter or digit "
            "at both ends: the Bento store allows no other name"
        )
    return name


def _alias_of_mlflow(alias: str) -> str:
    if not _ALIAS.fullmatch(alias) or _RESERVED_ALIAS.fullmatch(alias):
        raise ValueError(
            "must be 1 to 255 letters, digits, '-' and '_', and neither 'latest' nor 'v' with "
            "a number, which MLflow reserves"
        )
    return alias


Port = Annotated[int, Field(ge=1, le=65535)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
StateFolder = Annotated[AbsolutePath, AfterValidator(_path_for_database_urls)]
SeedFolder = Annotated[Path, AfterValidator(_no_pickles), AfterValidator(_absolute)]
Origins = Annotated[str, AfterValidator(_origins_as_browsers_send_them)]
ModelName = Annotated[str, AfterValidator(_name_for_both_stores)]
ModelAlias = Annotated[str, AfterValidator(_alias_of_mlflow)]
