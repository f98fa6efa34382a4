"""The hand-written texts of the model report, and its targets."""

from __future__ import annotations

from student_success.domain.students import HORIZONS, Horizon

AIMS: tuple[tuple[Horizon, str, float, bool], ...] = (
    (HORIZONS[2], "mae", 0.86, True),
    (HORIZONS[2], "mae_rounded", 0.84, True),
    (HORIZONS[2], "rmse", 1.56, True),
    (HORIZONS[2], "accuracy", 0.905, False),
    (HORIZONS[1], "mae", 1.50, True),
    (HORIZONS[0], "mae", 2.68, True),
)
"""Horizon, measure, limit, and whether it is a maximum (else a minimum)."""

OPENING = (
    "Written by `python -m training report`; only the words are by hand, the figures are measured.",
    "",
    "One model serves all three moments of the year. It is a random forest whose leaves keep the "
    "whole distribution of the pupils in them: how much their final grade differed from the last "
    "one known, and how many ended at 0. Added up over the trees this gives each pupil a "
    "distribution over whole grades (Meinshausen 2006). The grade is a blend of its median and "
    "mean, the pass probability and the interval are read off the same distribution.",
)

HARDEST = (
    "Without any period grade the error could not honestly be brought further down: recipes and "
    "seeds spread from 2.67 to 2.72 there, all within each other's noise, and no family did "
    "better (see below). What the 17 features say of a final grade before the first period is "
    "simply little.",
)

TRIED = (
    "What was tried on the way (repeated 10-fold with fixed parameters, one or two seeds; MAE / "
    "RMSE with G1+G2, MAE with G1, MAE without):",
    "",
    "- mean of a squared-error forest of the change: 0.95 / 1.54, 1.55, 2.73; with the last known "
    "grade, its trend and how many are known as further columns: 0.92 / 1.50, 1.52, 2.70; with "
    "weight 3 on rows with both grades: 0.88 / 1.48, 1.52, 2.72",
    "- boosting with absolute error: 0.88 / 1.59, 1.59, 2.75; half of it blended with the forest: "
    "0.87 / 1.51, 1.55, 2.72",
    "- leaf medians in place of leaf means: 0.88 / 1.49, 1.52, 2.72; the median of the pooled "
    "leaves: 0.81 / 1.61, 1.50, 2.73; half mean, half median: 0.84 / 1.52, 1.50, 2.72",
    "- the share that ends at 0 kept apart from the changes: CRPS with G1+G2 0.598 → 0.592; with "
    "conformal residuals around the same grade in place of the leaves' distribution: 0.650",
    "- trees grown on the signed root of the change, so that the 46 pupils who left rule them "
    "less: MAE without grades 2.71 → 2.67, RMSE with G1+G2 1.50 → 1.53",
    "- fewer leaves (128 a tree): G1 1.52, none 2.70; twice as many trees: no clear change; "
    "monotonic trees: no clear change",
    "- extra trees: 0.89 / 1.65, 1.55, 2.71; a linear model: 1.01 / 1.74, 1.70, 2.85",
    "- support vector regression without grades: MAE 2.65 but RMSE 3.73; not trees, not served",
)

PUBLISHED = (
    "With period grades our errors are below the published ones. Without any, nobody knows much: "
    "the two lie close together, theirs being the best of five kinds of model for each cell.",
)
