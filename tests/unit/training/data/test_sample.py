"""The synthetic sample: the same everywhere, near to life, and nobody's data."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from student_success.core.errors import DatasetError
from student_success.domain.students import CATEGORICAL, FEATURE_NAMES, TARGET
from training.data import sample_tables as tables
from training.data.dataset import COLUMNS, SAMPLE, content_sha256, read
from training.data.dictionary import DICTIONARY, render
from training.data.sample import AUDIT_COLUMNS, SAMPLE_CONTENT_SHA256, generate, to_csv, write

GRADES = ["G1", "G2", TARGET]


@pytest.fixture(scope="module")
def sample() -> pd.DataFrame:
    return pd.read_csv(SAMPLE)


@pytest.fixture(scope="module")
def real(real_data_dir: Path) -> pd.DataFrame:
    return pd.read_csv(real_data_dir / "final.csv")


def test_shipped_file_is_made_again_byte_for_byte(tmp_path: Path) -> None:
    assert write(tmp_path / "again.csv") == 1000
    assert (tmp_path / "again.csv").read_bytes() == SAMPLE.read_bytes()


def test_shipped_file_is_valid_and_known_as_synthetic() -> None:
    data = read(SAMPLE)
    assert (data.rows, data.synthetic) == (1000, True)
    assert tuple(data.audit.columns) == AUDIT_COLUMNS
    assert content_sha256(data.frame.to_dict("records")) == SAMPLE_CONTENT_SHA256


def test_another_seed_makes_other_pupils_of_the_same_kind(sample: pd.DataFrame) -> None:
    other = pd.DataFrame(generate(seed=1))
    assert to_csv(generate(seed=1)) != to_csv(generate())
    for name in ("school", "failures", "G1"):
        assert other[name].value_counts().equals(sample[name].value_counts())


def test_tables_hold_a_thousand_pupils_and_a_whole_triangle() -> None:
    assert list(tables.MARGINALS) == list(tables.CORRELATIONS)
    assert all(sum(counts.values()) == tables.PUPILS for counts in tables.MARGINALS.values())
    assert [len(row) for row in tables.CORRELATIONS.values()] == list(range(len(tables.MARGINALS)))


def test_share_of_zero_grades_is_kept_and_absences_do_not_tell_who_left(
    sample: pd.DataFrame,
) -> None:
    left = sample[TARGET] == 0
    assert left.mean() == pytest.approx(46 / 662, abs=0.001)
    none = sample["absences"] == 0
    # Among the 69 who left, the share without absences differs by chance.
    assert none[left].mean() == pytest.approx(none[~left].mean(), abs=0.12)


def test_folder_that_is_missing_is_refused_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be written"):
        write(tmp_path / "absent" / "sample.csv")


def test_every_marginal_is_within_three_points_of_the_real_one(
    sample: pd.DataFrame, real: pd.DataFrame
) -> None:
    for name in (*COLUMNS, *AUDIT_COLUMNS):
        shares = [frame[name].value_counts(normalize=True) for frame in (sample, real)]
        gap = shares[0].sub(shares[1], fill_value=0).abs().max()
        assert gap <= 0.03, f"{name}: {gap:.3f}"
        if name in FEATURE_NAMES and name not in CATEGORICAL:
            cumulated = [share.sort_index() for share in shares]
            both = pd.concat(cumulated, axis=1).fillna(0).sort_index().cumsum()
            assert both.diff(axis=1).iloc[:, 1].abs().max() <= 0.03, name


def test_rank_correlations_of_grades_are_within_a_twentieth(
    sample: pd.DataFrame, real: pd.DataFrame
) -> None:
    gaps = sample[GRADES].corr("spearman") - real[GRADES].corr("spearman")
    assert gaps.abs().max().max() <= 0.05


def test_other_rank_correlations_are_near_the_real_ones(
    sample: pd.DataFrame, real: pd.DataFrame
) -> None:
    names = [n for n in (*COLUMNS, *AUDIT_COLUMNS) if n != "reason"]
    ranks = [
        frame[names].apply(lambda column: column.rank(method="dense")).corr("spearman")
        for frame in (sample, real)
    ]
    assert (ranks[0] - ranks[1]).abs().max().max() <= 0.13


def test_rules_of_thumb_err_as_much_as_on_real_data(
    sample: pd.DataFrame, real: pd.DataFrame
) -> None:
    for grade in ("G1", "G2"):
        errors = [frame[TARGET] - frame[grade] for frame in (sample, real)]
        mae, rmse = (
            [float(e.abs().mean()) for e in errors],
            [math.sqrt(float((e**2).mean())) for e in errors],
        )
        assert mae[0] == pytest.approx(mae[1], rel=0.05)
        assert rmse[0] == pytest.approx(rmse[1], rel=0.05)


def test_no_pupil_of_the_sample_is_a_real_one(sample: pd.DataFrame, real: pd.DataFrame) -> None:
    columns = [*COLUMNS, *AUDIT_COLUMNS]
    rows = [set(frame[columns].itertuples(index=False, name=None)) for frame in (sample, real)]
    assert not rows[0] & rows[1]


def test_data_dictionary_matches_the_features() -> None:
    assert DICTIONARY.read_text(encoding="utf-8") == render()
    for name in (*COLUMNS, *AUDIT_COLUMNS, "10.24432/C5TG7T", "CC BY 4.0"):
        assert name in render()
