"""Features that were filled in after the outcome was known are named and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from student_success.lifecycle.evidence import Evidence
from student_success.lifecycle.gate import GateLimits, decide
from training.data.dataset import SAMPLE, read
from training.evaluation.feature_leaks import feature_leaks

Change = Callable[[pd.DataFrame], pd.DataFrame]


def left(pupils: pd.DataFrame) -> pd.Series:
    return pupils["G3"] == 0


LEAKY: dict[str, tuple[Change, str, str, bool]] = {
    "a value of those who left": (
        lambda t: t.assign(goout=t["goout"].where(~left(t), 5)),
        *("goout", "5: 100% of those who did not finish", False),
    ),
    "a declared value of those who left": (
        lambda t: t.assign(absences=t["absences"].where(~left(t), 0)),
        *("absences", "0: 100% of those who did not finish", True),
    ),
    "a range of those who left": (
        lambda t: t.assign(age=(t["age"] - 2).clip(15).where(~left(t), 21 + t.index % 2)),
        *("age", "at least 21: 100% of those who did not finish", False),
    ),
    "unknown of those who left": (
        lambda t: t.assign(traveltime=t["traveltime"].where(~left(t))),
        *("traveltime", "unknown: 100% of those who did not finish", False),
    ),
    "nearly who failed": (
        lambda t: t.assign(paid=(t["G3"] >= 10).map({True: "yes", False: "no"})).assign(
            paid=lambda p: p["paid"].where(p.index % 50 > 0, "no")
        ),
        *("paid", "no: 100% of those who failed", False),
    ),
    "a value of two in three of those who left": (
        lambda t: t.assign(traveltime=1 + t.index % 3).assign(
            traveltime=lambda p: p["traveltime"].where(~left(t) | (left(t).cumsum() % 3 == 0), 4)
        ),
        *(
            "traveltime",
            "4: 67% of those who did not finish, 0% of the others, and without it nothing remains",
            False,
        ),
    ),
    "one of many categories of those who left": (
        lambda t: t.assign(reason="r" + (t.index % 30).astype(str)).assign(
            reason=lambda p: p["reason"].where(~left(t) | (left(t).cumsum() % 3 == 0), "none")
        ),
        *("reason", "none: 67% of those who did not finish, 0% of the others", False),
    ),
    "nearly the final grade": (
        lambda t: t.assign(absences=t["G3"] + t.index % 3),
        *("absences", "says nearly the same as G3", False),
    ),
}


@pytest.mark.parametrize("kind", LEAKY)
def test_leak_of_the_outcome_is_named_and_undeclared_ones_are_refused_by_the_gate(
    kind: str,
) -> None:
    change, feature, finding, declared = LEAKY[kind]
    leaks = feature_leaks(change(read(SAMPLE).frame))
    named = [leak for leak in leaks if leak["finding"].startswith(finding)]
    assert [(leak["feature"], leak["declared"]) for leak in named] == [(feature, declared)]
    evidence = Evidence.from_json({"feature_leaks": leaks})
    [condition] = [
        c for c in decide(evidence, GateLimits()).conditions if c.name == "feature_leaks"
    ]
    assert condition.passed == all(leak["declared"] for leak in leaks)
    assert condition.passed or finding in condition.detail


def test_value_of_many_who_left_is_no_leak_if_the_feature_says_more() -> None:
    pupils = read(SAMPLE).frame
    value = (pupils["G3"] // 5).clip(0, 3) + 1
    common = pupils.assign(
        traveltime=value.where(~left(pupils) | (left(pupils).cumsum() % 3 > 0), 2)
    )
    share = (common["traveltime"] == 1)[left(pupils)].mean()
    assert 0.5 < share < 0.95
    assert not [leak for leak in feature_leaks(common) if "nothing remains" in leak["finding"]]


def test_sample_and_its_features_hold_no_leak() -> None:
    assert feature_leaks(read(SAMPLE).frame) == []


def test_leak_of_the_real_data_is_found_and_declared(real_data_dir: Path) -> None:
    [leak] = feature_leaks(read(real_data_dir / "final.csv").frame)
    assert (leak["feature"], leak["declared"]) == ("absences", True)


def test_evidence_without_a_search_for_leaks_is_refused() -> None:
    verdict = decide(Evidence.from_json({}), GateLimits())
    assert not {c.name: c.passed for c in verdict.conditions}["feature_leaks"]
