"""Conditions on what the candidate and the served version were trained on."""

from __future__ import annotations

from typing import Any, cast

import pytest

from student_success.core.paths import ROOT
from student_success.lifecycle.training_data import conditions
from student_success.model.artefact import Artefact

SEED = Artefact(ROOT / "student_success" / "seed")


class Trained:
    """The seed model, but for its training data."""

    card, drift_reference = SEED.card, SEED.drift_reference

    def __init__(self, *, synthetic: bool) -> None:
        self.dataset = SEED.dataset | {"synthetic": synthetic}


def failed(candidate: Trained, champion: Trained | None, **options: Any) -> set[str]:
    judged = conditions(cast(Artefact, candidate), cast(Artefact | None, champion), **options)
    return {condition.name for condition in judged if not condition.passed}


REAL, SYNTHETIC = Trained(synthetic=False), Trained(synthetic=True)


def test_synthetic_candidate_is_refused_over_a_real_champion_unless_allowed() -> None:
    assert failed(SYNTHETIC, REAL) == {"synthetic_data"}
    assert failed(SYNTHETIC, REAL, allow_synthetic=True) == set()


@pytest.mark.parametrize(
    ("candidate", "champion"), [(REAL, SYNTHETIC), (SYNTHETIC, SYNTHETIC), (SYNTHETIC, None)]
)
def test_synthetic_data_condition_passes_where_no_real_model_is_replaced(
    candidate: Trained, champion: Trained | None
) -> None:
    assert failed(candidate, champion) == set()


@pytest.mark.parametrize("candidate", [REAL, SYNTHETIC])
@pytest.mark.parametrize("allow", [True, False])
def test_condition_says_how_its_value_is_compared_only_where_that_decides(
    candidate: Trained, allow: bool
) -> None:
    compared = cast(Artefact, candidate), cast(Artefact, REAL)
    judged = {c.name: c for c in conditions(*compared, allow_synthetic=allow)}
    assert judged.pop("population").compared is None
    assert set(judged) == {"synthetic_data", "horizons"}
    for condition in judged.values():
        assert condition.value is not None
        assert condition.limit is not None
        if condition.compared is None:
            assert condition.passed
            assert condition.value > condition.limit
        else:
            assert condition.compared == "at_most"
            assert condition.passed == (condition.value <= condition.limit)
