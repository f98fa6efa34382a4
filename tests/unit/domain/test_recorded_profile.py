"""A state directory and a model version belong to one profile; its texts may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from student_success.bulk import model_choice
from student_success.core.configuration.settings import Settings
from student_success.core.errors import ConfigurationError, ProfileMismatchError
from student_success.domain.decision import SEED
from student_success.domain.profile import Profile
from student_success.domain.recorded_profile import PROFILE_FILE, check_version, claim_state_dir
from student_success.domain.students import PROFILE
from student_success.registry import versions
from tests.schools import write_profile


def changed(**grade: object) -> Profile:
    """Return the profile of this process with other values about the grade."""
    data = PROFILE.model_dump(mode="json")
    return Profile.model_validate({**data, "grade": {**data["grade"], **grade}})


def record(folder: Path, profile: Profile) -> None:
    (folder / PROFILE_FILE).write_text(profile.model_dump_json(), "utf-8")


def test_claim_records_the_profile_on_the_first_start_and_new_texts_later(tmp_path: Path) -> None:
    path = tmp_path / "new" / PROFILE_FILE
    claim_state_dir(path.parent)
    assert Profile.model_validate_json(path.read_bytes()) == PROFILE
    record(path.parent, changed(label="Other words"))
    claim_state_dir(path.parent)
    assert Profile.model_validate_json(path.read_bytes()) == PROFILE


def test_claim_of_a_state_directory_of_another_profile_names_the_difference(
    tmp_path: Path,
) -> None:
    record(tmp_path, changed(pass_mark=12))
    with pytest.raises(ConfigurationError, match=r"pass_mark of the grade is 12\.0, not 10\.0"):
        claim_state_dir(tmp_path)
    assert Profile.model_validate_json((tmp_path / PROFILE_FILE).read_bytes()) != PROFILE


def stricter() -> Profile:
    """Return the profile of this process without values that may be unknown."""
    data = PROFILE.model_dump(mode="json")
    return Profile.model_validate(
        {**data, "feature": [{**feature, "nullable": False} for feature in data["feature"]]}
    )


def test_state_directory_from_before_values_could_be_unknown_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert any(feature.nullable for feature in PROFILE.feature)
    record(tmp_path, stricter())
    # A version of that profile knows no unknown values, so it is not served.
    with pytest.raises(ProfileMismatchError, match="nullable of reason is False, not True"):
        check_version(tmp_path, "7")
    claim_state_dir(tmp_path)
    assert Profile.model_validate_json((tmp_path / PROFILE_FILE).read_bytes()) == PROFILE
    monkeypatch.setattr("student_success.domain.recorded_profile.PROFILE", stricter())
    with pytest.raises(ConfigurationError, match="nullable of reason is True, not False"):
        claim_state_dir(tmp_path)


def test_state_directory_from_before_profiles_belongs_to_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_profile(tmp_path / "school.toml", "points")
    used, unused = tmp_path / "used", tmp_path / "unused"
    (used / "bentoml" / "models").mkdir(parents=True)
    # A command makes the folder before it asks whose the state directory is.
    (unused / "bentoml").mkdir(parents=True)
    monkeypatch.setattr("student_success.domain.recorded_profile.PROFILE", other)
    with pytest.raises(ConfigurationError, match="belongs to the profile uci"):
        claim_state_dir(used)
    assert not (used / PROFILE_FILE).exists()
    claim_state_dir(unused)
    monkeypatch.setattr("student_success.domain.recorded_profile.PROFILE", PROFILE)
    claim_state_dir(used)
    with pytest.raises(ConfigurationError, match="belongs to the profile points"):
        claim_state_dir(unused)


def test_claim_of_a_damaged_record_is_refused_and_keeps_it(tmp_path: Path) -> None:
    (tmp_path / PROFILE_FILE).write_text("{", "utf-8")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        claim_state_dir(tmp_path)
    assert (tmp_path / PROFILE_FILE).read_text("utf-8") == "{"


def test_version_of_another_profile_is_refused_wherever_a_version_is_loaded(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "version"
    shutil.copytree(Settings().seed_model_path, folder)
    check_version(folder, "4")
    settings = Settings(seed_model_path=folder)
    record(folder, changed(label="Other words"))
    check_version(folder, "4")
    record(folder, changed(pass_mark=12))
    for load in (
        lambda: check_version(folder, "4"),
        lambda: versions.load(settings, SEED),
        lambda: model_choice.choose(settings, str(folder)),
    ):
        with pytest.raises(ProfileMismatchError) as refused:
            load()
        assert refused.value.to_json()["code"] == "profile_mismatch"
        assert refused.value.details == [{"difference": "pass_mark of the grade is 12.0, not 10.0"}]
    assert not versions.has_seed(settings)
    assert versions.champion_folder(settings, SEED) is None
