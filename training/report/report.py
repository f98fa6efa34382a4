"""Write the model report: a long evaluation on the real data, with plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatasetError
from student_success.domain.students import HORIZONS
from training.data.dataset import Dataset, load
from training.data.shipped import require_shipped_profile
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.fairness import MEASURES
from training.evaluation.held_out import BASELINE, CANDIDATE
from training.export.model_card import MEASURE_NAMES
from training.fitting.families import FAMILIES
from training.fitting.fit import Recipe
from training.fitting.search import choose
from training.report import narrative
from training.report.plots import draw
from training.report.published import Published, follow

NAME = "model-report.md"
SPLITS, REPEATS, RUNS = 10, 5, 20
JOBS = 2


def write(settings: Settings, folder: Path, *, uci: Path | None, quick: bool) -> Path:
    """Measure everything and write the report with its plots.

    Parameters
    ----------
    folder
        Where the report goes; its plots go to ``img`` beside it.
    uci
        Folder of the two UCI files; without it the published protocol is left out.
    quick
        One repeat of each protocol, as a trial.

    Raises
    ------
    DatasetError
        If the data is missing, has bad cells, or is the synthetic sample.
    ConfigurationError
        If the profile is not the one that ships: narrative and published figures are about that.
    """
    require_shipped_profile("The model report")
    data = load(settings)
    if data.synthetic and not quick:
        raise DatasetError("The report is about real pupils, and there is only the sample.")
    repeats, runs = (1, 1) if quick else (REPEATS, RUNS)
    search = partial(
        choose,
        family=None,
        budget_seconds=settings.train_budget_seconds,
        seed=settings.random_seed,
    )
    judge = partial(
        evaluate, data.inputs, data.grades, splits=SPLITS, seed=settings.random_seed, jobs=JOBS
    )
    nested = judge(search, repeats=repeats, audit=data.audit, alarm_recall=settings.alarm_recall)
    families = {
        name: judge(Recipe(name, family.default, settings.random_seed), repeats=1)
        for name, family in FAMILIES.items()
    }
    published = follow(uci, runs=runs, jobs=JOBS) if uci is not None else []
    plots = draw(nested.held_out, folder / "img")
    lines = _lines(data, nested, families, published, plots, repeats=repeats, runs=runs)
    path = folder / NAME
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _lines(
    data: Dataset,
    nested: Evaluation,
    families: Mapping[str, Evaluation],
    published: Sequence[Published],
    plots: Sequence[tuple[str, str]],
    *,
    repeats: int,
    runs: int,
) -> list[str]:
    evidence = nested.evidence
    lines = ["# What the model is worth", "", *narrative.OPENING, ""]
    lines += [f"Data: `{data.name}`, {data.rows} pupils, SHA-256 `{data.sha256}`. "]
    lines += [
        f"{repeats} × {SPLITS} folds by pupil. In each fold the recipe is chosen, the model fitted "
        "and calibrated on the training pupils alone; the figures are about the others. After ± is "
        "half the 95 % interval of the mean, corrected for the overlap of the folds (Nadeau and "
        "Bengio).",
        "",
        f"{evidence['leaks']} of {evidence['leaks_checked']} predictions came from a fit that had "
        "seen the pupil.",
        "",
    ]
    for horizon in map(str, HORIZONS[::-1]):
        lines += [*_horizon(evidence, horizon), ""]
    lines += [
        "## MAE of those who finished and of those who left",
        "",
        *_apart(nested),
        "",
        "## Families, same folds",
        "",
    ]
    lines += [*_families(families), "", *narrative.TRIED, ""]
    lines += ["## Recipes chosen in the folds", "", *_chosen(evidence), ""]
    lines += ["## How sure", "", *_sure(evidence), ""]
    lines += [f"![{caption}](img/{name})\n" for name, caption in plots]
    lines += ["## The alarm", "", *_alarm(evidence), "", "## Fairness", "", *_fairness(evidence)]
    if published:
        lines += ["", "## Beside the published study", "", *_published(published, runs)]
    return lines


def _horizon(evidence: Mapping[str, Any], horizon: str) -> list[str]:
    figures = evidence["horizons"][horizon]
    rows = []
    for measure, label in MEASURE_NAMES.items():
        digits = 2 if measure == "width" else 3
        found = [figures[name][measure] for name in (CANDIDATE, BASELINE)]
        cells = (f"{each['mean']:.{digits}f} ± {each['half']:.{digits}f}" for each in found)
        rows.append(f"| {label} | " + " | ".join(cells) + " |")
    thumb = {"G1+G2": "G3 = G2", "G1": "G3 = G1", "none": "the median"}[horizon]
    return [
        f"### Known: {horizon}",
        "",
        f"| | this model | rule of thumb: {thumb} |",
        "|---|--:|--:|",
        *rows,
    ]


def _apart(nested: Evaluation) -> list[str]:
    """Return the errors of those who finished and of those who left."""
    lines = ["| known | pupils | this model | rule of thumb |", "|---|---|--:|--:|"]
    for horizon in map(str, HORIZONS[::-1]):
        parts = [part for part in nested.held_out if part.horizon == horizon]
        actual = np.concatenate([part.actual for part in parts])
        for label, chosen in (("finished", actual > 0), ("left", actual == 0)):
            errors = [
                np.abs(np.concatenate([p.calibrated[name].grade for p in parts]) - actual)[chosen]
                for name in (CANDIDATE, BASELINE)
            ]
            lines.append(
                f"| {horizon} | {label} | {errors[0].mean():.3f} | {errors[1].mean():.3f} |"
            )
    return lines


def _families(families: Mapping[str, Evaluation]) -> list[str]:
    head = "| family (its default) |"
    rule = "|---|"
    for horizon in HORIZONS[::-1]:
        head += f" {horizon} MAE | RMSE | CRPS |"
        rule += "--:|--:|--:|"
    rows = []
    for name, evaluation in families.items():
        cells = [
            f"{evaluation.evidence['horizons'][str(h)][CANDIDATE][measure]['mean']:.3f}"
            for h in HORIZONS[::-1]
            for measure in ("mae", "rmse", "crps")
        ]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return [head, rule, *rows]


def _chosen(evidence: Mapping[str, Any]) -> Iterable[str]:
    return [
        f"- {entry['folds']} folds: {entry['family']}, "
        + ", ".join(f"{key} {value}" for key, value in sorted(entry["params"].items()))
        for entry in evidence["chosen"]
    ]


def _sure(evidence: Mapping[str, Any]) -> list[str]:
    per = [evidence["horizons"][str(h)][CANDIDATE] for h in HORIZONS]
    overall = np.mean([one["coverage"]["mean"] for one in per])
    lines = [
        f"The 90 % interval held {overall:.1%} of all pupils' grades. The expected calibration "
        f"error of the pass probability is {evidence['calibration']['ece']:.3f}.",
        "",
        "| group | " + " | ".join(map(str, HORIZONS[::-1])) + " |",
        "|---|--:|--:|--:|",
    ]
    cover: dict[str, dict[str, float]] = {}
    for group in evidence["groups"]:
        if group["attribute"] in ("sex", "school", "address"):
            label = f"{group['attribute']} {group['group']}"
            cover.setdefault(label, {})[group["horizon"]] = group["coverage"]
    return lines + [
        f"| {label} | " + " | ".join(f"{found[str(h)]:.1%}" for h in HORIZONS[::-1]) + " |"
        for label, found in cover.items()
    ]


def _alarm(evidence: Mapping[str, Any]) -> list[str]:
    alarm = evidence["alarm"]
    return [
        f"Asked to find {alarm['recall_asked']:.0%} of the failing pupils:",
        "",
        "| known | failing found | passing alarmed in vain | all alarmed |",
        "|---|--:|--:|--:|",
        *(
            f"| {horizon} | {found['recall']:.1%} | {found['false_alarms']:.1%} "
            f"| {found['share_alarmed']:.1%} |"
            for horizon, found in alarm["horizons"].items()
        ),
    ]


def _fairness(evidence: Mapping[str, Any]) -> list[str]:
    lines = [
        "Each group against all other pupils, with the 95 % interval of the gap; none of these is "
        "a feature but the school. MAE in grades; false alarms among those who passed, missed "
        "failures among those who failed, as shares.",
        "",
        "| known | group | pupils | MAE gap | false alarms gap | missed failures gap |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for group in evidence["groups"]:
        cells = [
            f"{group[m]['gap']:+.3f} ({group[m]['low']:+.3f} to {group[m]['high']:+.3f})"
            if m in group
            else "too few"
            for m in MEASURES
        ]
        lines.append(
            f"| {group['horizon']} | {group['attribute']} {group['group']} | {group['pupils']} | "
            + " | ".join(cells)
            + " |"
        )
    return lines


def _published(published: Sequence[Published], runs: int) -> list[str]:
    return [
        f"{runs} runs of 10-fold on each subject's file, all of the study's inputs allowed, one "
        "model a set-up as there. RMSE in grades (± half a 95 % interval over the runs).",
        "",
        "| subject | known | published | ours | pass/fail accuracy |",
        "|---|---|--:|--:|--:|",
        *(
            f"| {'mathematics' if 'mat' in cell.subject else 'Portuguese'} | {cell.horizon} "
            f"| {cell.theirs:.2f} | {cell.ours:.3f} ± {cell.half:.3f} | {cell.pass_accuracy:.1%} |"
            for cell in published
        ),
        "",
        *narrative.PUBLISHED,
    ]
