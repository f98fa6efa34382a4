"""The profile that a state directory or a model version was made for, recorded in a JSON file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import ValidationError

from student_success.core.errors import ArtefactError, ConfigurationError, ProfileMismatchError
from student_success.domain.profile import Profile
from student_success.domain.profile_file import shipped_profile
from student_success.domain.students import PROFILE

PROFILE_FILE = "profile.json"
_STATE = ("student_success.db", "mlflow.db", "bentoml", "mlflow-artefacts")
"""What a state directory contains that was used."""
_NAMED = 3
"""How many differences a message names; the details name all."""


def check_version(folder: Path, version: str) -> None:
    """Refuse a model version that was trained for another profile than that of this process.

    Parameters
    ----------
    folder
        The served artefact.

    Raises
    ------
    ProfileMismatchError
        With every difference.
    """
    other = _recorded(folder)
    if found := differences(PROFILE, other):
        raise ProfileMismatchError(
            f"Version {version} cannot be used: it was trained for the profile {other.name}, which "
            f"differs from {PROFILE.name}: {_named(found)}. Nothing was changed. Train a "
            "version for this profile, or set PROFILE_PATH to the other one.",
            details=[{"difference": difference} for difference in found],
        )


def fits(folder: Path) -> bool:
    """Return whether a served artefact was trained for the profile of this process."""
    return not differences(PROFILE, _recorded(folder))


def differences(profile: Profile, other: Profile) -> list[str]:
    """Return in words how `other` differs, so that a model of one cannot serve the other."""
    ours, theirs = _identity(profile), _identity(other)
    return [
        f"{name} is {theirs.get(name, 'absent')}, not {ours.get(name, 'absent')}"
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    ]


def _identity(profile: Profile) -> dict[str, object]:
    facts: dict[str, object] = {
        f"{key} of the grade": value
        for key, value in profile.grade.model_dump(exclude={"label", "also", "rounded"}).items()
    }
    for period in profile.period:
        facts[f"period {period.column}"] = "a grade"
        for key in ("minimum", "maximum"):
            facts[f"{key} of {period.column}"] = getattr(period, key)
    for feature in profile.feature:
        facts[f"feature {feature.column}"] = feature.kind
        for key in ("minimum", "maximum", "nullable", "scale"):
            facts[f"{key} of {feature.column}"] = getattr(feature, key)
        facts[f"choices of {feature.column}"] = sorted(str(c.value) for c in feature.choices)
    return facts | {"order of the columns": ", ".join(profile.columns)}


def claim_state_dir(state_dir: Path) -> None:
    """Record the profile of this process in the state directory, which belongs to one profile.

    Raises
    ------
    ConfigurationError
        If it belongs to another one; texts may differ, and what had to be known may be unknown now.
    """
    path = state_dir / PROFILE_FILE
    try:
        recorded = _recorded(state_dir)
    except ArtefactError as error:
        raise ConfigurationError(
            f"Nothing was started or changed: {path} cannot be read. Restore it from a backup."
        ) from error
    used = path.exists() or any(_is_used(state_dir / name) for name in _STATE)
    if used and (found := differences(PROFILE, _allowing_unknown(recorded))):
        raise ConfigurationError(
            f"Nothing was started or changed: STATE_DIR {state_dir} belongs to the profile "
            f"{recorded.name}, which differs from {PROFILE.name}: {_named(found)}. Set "
            "STATE_DIR to another folder for this profile, or PROFILE_PATH to the profile that "
            "the folder belongs to.",
            details=[{"difference": difference} for difference in found],
        )
    content = json.dumps(PROFILE.model_dump(mode="json"), ensure_ascii=False, indent=1)
    try:
        if not path.exists() or path.read_text("utf-8") != content:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Each worker may do it at the same time.
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(content, "utf-8")
            temporary.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"Nothing was started: {path} cannot be written ({error.strerror}). Make STATE_DIR "
            "writable, or set it to another folder."
        ) from error


def _allowing_unknown(recorded: Profile) -> Profile:
    """Return a profile in which every feature may be unknown that may be in this process's.

    What was recorded under the stricter profile is valid under this one. A model is not: it has not
    learnt what an unknown value means.
    """
    nullable = {feature.column for feature in PROFILE.feature if feature.nullable}
    features = tuple(
        feature.model_copy(update={"nullable": feature.nullable or feature.column in nullable})
        for feature in recorded.feature
    )
    return recorded.model_copy(update={"feature": features})


def _is_used(path: Path) -> bool:
    """Return whether a file exists, or a folder that is not empty: commands make it first."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _recorded(folder: Path) -> Profile:
    """Return the profile recorded in a folder; what was made before profiles is of the shipped."""
    try:
        return Profile.model_validate_json((folder / PROFILE_FILE).read_bytes())
    except FileNotFoundError:
        return shipped_profile()
    except (OSError, ValidationError) as error:
        raise ArtefactError(f"The file {PROFILE_FILE} in {folder.name} cannot be read.") from error


def _named(differences: list[str]) -> str:
    more = len(differences) - _NAMED
    named = "; ".join(differences[:_NAMED])
    return f"{named}; and {more} more" if more > 0 else named
