"""What the evaluation of a candidate measured: written by the training, judged by the gate.

It is the part of `evaluation.json`, in the candidate's artefact, that the gate uses; all other keys
are ignored, so the file may say more::

    {
      "losses": {                       one entry a loss: "crps" (used where it is there) or "rmse"
        "crps": {
          "G1+G2": {"candidate": [0.61, …], "baseline": [0.66, …], "champion": [0.62, …] or null},
          "G1":    {…},                 baseline: last known grade (G2, G1) or the median (none),
          "none":  {…}                  given the same conformal treatment where the loss is "crps"
        }
      },
      "n_train": 595.8, "n_test": 66.2, pupils a fold, on average
      "mae": 0.86, "r2": 0.86,          candidate, horizon G1+G2, mean over the folds
      "leaks": 0,                       out-of-fold predictions by a fit that saw that pupil
      "leaks_checked": 19860,           out-of-fold predictions that were looked at
      "champion": "…" or null,          fingerprint of the champion whose recipe was refitted
      "fairness": [                     [] if the data has no group to audit; absent is a refusal
        {"attribute": "sex", "group": "F", "horizon": "G1+G2", "measure": "mae",
         "gap": 0.08, "standard_error": 0.07}
      ]
    }

Every list of losses is in the order of the same repeated folds, one number a fold, lower is better.
`measure` is ``"mae"`` (grades), ``"false_alarms"`` or ``"missed_failures"`` (shares, 0 to 1); `gap`
is the absolute difference between the group and all other pupils, `standard_error` that of the
difference. Groups too small to be judged are left out by the evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

LOSSES = ("crps", "rmse")
"""Losses the gate understands, the one it prefers first."""


@dataclass(frozen=True, slots=True)
class FoldLosses:
    """Losses of one horizon, one number a fold, all in the same order of folds."""

    candidate: tuple[float, ...] = ()
    baseline: tuple[float, ...] = ()
    champion: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class FairnessGap:
    """How differently one group is treated from all other pupils, in one measure."""

    attribute: str
    group: str
    horizon: str
    measure: str
    gap: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the evaluation of a candidate measured; whatever is missing is NaN, empty or None.

    Attributes
    ----------
    loss
        Name of the loss in `horizons`.
    n_train, n_test
        Mean number of pupils a fold.
    mae, r2
        Candidate with both period grades known, mean over the folds.
    leaks, leaks_checked
        Out-of-fold predictions by a fit that saw the pupil, out of how many looked at.
    champion
        Fingerprint of the champion compared with; None where there was none.
    """

    loss: str
    horizons: Mapping[str, FoldLosses]
    n_train: float
    n_test: float
    mae: float
    r2: float
    leaks: float
    leaks_checked: float
    champion: str | None = None
    fairness: tuple[FairnessGap, ...] | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, loss: str | None = None) -> Self:
        """Read what `evaluation.json` says; what is missing or no number will refuse.

        Parameters
        ----------
        loss
            The loss to judge by; the first of `LOSSES` that the evidence has, if None.
        """
        losses = _mapping(data.get("losses"))
        name = loss or next((known for known in LOSSES if known in losses), LOSSES[0])
        measured = _mapping(losses.get(name))
        gaps = data.get("fairness")
        champion = data.get("champion")
        return cls(
            loss=name,
            horizons={
                key: FoldLosses(
                    _numbers(_mapping(folds).get("candidate")),
                    _numbers(_mapping(folds).get("baseline")),
                    None
                    if _mapping(folds).get("champion") is None
                    else _numbers(_mapping(folds)["champion"]),
                )
                for key, folds in measured.items()
            },
            **{
                key: _number(data.get(key))
                for key in ("n_train", "n_test", "mae", "r2", "leaks", "leaks_checked")
            },
            champion=champion if isinstance(champion, str) else None,
            fairness=tuple(_gap(gap) for gap in gaps) if isinstance(gaps, Sequence) else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Write what `from_json` reads; a number that is not finite becomes null."""
        data = asdict(self)
        data["losses"] = {data.pop("loss"): data.pop("horizons")}
        return finite_json(data)  # type: ignore[no-any-return]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float:
    """Return a JSON number, NaN for anything else (a boolean is none)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # JSON has whole numbers of any length
        return math.nan


def _numbers(value: object) -> tuple[float, ...]:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(_number(item) for item in value) if listed else ()  # type: ignore[attr-defined]


def _gap(value: object) -> FairnessGap:
    found = _mapping(value)
    return FairnessGap(
        attribute=str(found.get("attribute", "")),
        group=str(found.get("group", "")),
        horizon=str(found.get("horizon", "")),
        measure=str(found.get("measure", "")),
        gap=_number(found.get("gap")),
        standard_error=_number(found.get("standard_error")),
    )


def finite_json(value: Any) -> Any:
    """Replace numbers that JSON does not have by null, and tuples by lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite_json(item) for key, item in value.items()}
    return [finite_json(v) for v in value] if isinstance(value, list | tuple) else value
