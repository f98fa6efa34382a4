"""What the models tab shows: versions, evidence, training, log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from gradio_ui.html.figures import BOTH, figure, measure
from gradio_ui.html.markup import Cell, Safe, badge, facts, note, progress, table, when
from gradio_ui.html.result import version_name
from gradio_ui.texts import Words

__all__ = [
    "choices",
    "conditions",
    "job",
    "log",
    "number_of",
    "reading",
    "served",
    "version_name",
    "versions",
]

_REGISTRY_MODE = "G1_G2"
"""Both grades known, as MLflow's names of metrics allow."""


def number_of(version: str | None) -> int | None:
    """Read a version number as chosen or typed."""
    text = (version or "").strip().lstrip("v")
    return int(text) if text.isdecimal() and 0 < len(text) < 16 else None


def reading(words: Words) -> str:
    """Say that the registry is being read."""
    title = f"<h2>{escape(words('models.versions'))}</h2>"
    return title + note("info", words("models.reading"))


def served(words: Words, model: Mapping[str, Any]) -> str:
    """Say what is served, and how good it was found to be."""
    version = model.get("model_version")
    return f"<h2>{escape(words('models.served'))}</h2>" + facts(
        [
            (words("monitor.model"), version_name(words, str(version)) if version else "—"),
            (words("models.mae"), figure(words, measure(model, BOTH, "candidate", "mae"))),
            (words("models.mae_baseline"), figure(words, measure(model, BOTH, "baseline", "mae"))),
            ("R²", figure(words, measure(model, BOTH, "candidate", "r2"))),
            (words("models.data"), _data(words, model.get("dataset") or {})),
        ]
    )


def versions(
    words: Words, found: Sequence[Mapping[str, Any]] | None, model: Mapping[str, Any]
) -> str:
    """Return the registered versions beside the champion and the baseline."""
    title = f"<h2>{escape(words('models.versions'))}</h2>"
    if found is None:
        return title + note("info", words("models.no_list"))
    if not found:
        return title + note("info", words("models.no_versions"))
    current = model.get("model_version")
    champion = measure(model, BOTH, "candidate", "mae")
    baseline = measure(model, BOTH, "baseline", "mae")
    rows: list[Sequence[Cell]] = []
    for one in found:
        metrics = one.get("metrics") or {}
        mae, r2 = metrics.get(f"{_REGISTRY_MODE}/mae"), metrics.get(f"{_REGISTRY_MODE}/r2")
        is_served = one.get("served") or str(one.get("version")) == str(current)
        rows.append(
            [
                f"v{one.get('version')}",
                when(words, str(one["created_at"])) if one.get("created_at") else "—",
                str(one.get("best_model") or "—"),
                figure(words, mae),
                figure(words, champion),
                figure(words, baseline),
                figure(words, r2),
                _data(words, one.get("dataset") or {}),
                badge(words("models.is_served"), "good") if is_served else "",
            ]
        )
    names = (
        "number",
        "created",
        "family",
        "mae",
        "champion",
        "mae_baseline",
        "r2",
        "data",
        "state",
    )
    titles = [words(f"models.{name}") for name in names]
    return title + table(words, words("models.versions"), titles, rows)


def choices(words: Words, found: Sequence[Mapping[str, Any]] | None) -> list[tuple[str, str]]:
    """Return the versions to choose from."""
    return [
        (words("model.version", version=one["version"]), str(one["version"]))
        for one in found or ()
        if not one.get("served")
    ]


def conditions(words: Words, version: int, verdict: Mapping[str, Any]) -> str:
    """Return what the gate asked, what it found, and where it said no."""
    listed = sorted(verdict.get("conditions", ()), key=lambda one: bool(one.get("passed")))
    passed = bool(verdict.get("passed"))
    title = words("gate.passed" if passed else "gate.failed", version=version)
    # Fairness is dozens of rows: those that hold are there for whoever asks.
    aside = [one for one in listed if one.get("passed") and _is_fairness(one)]
    shown = [one for one in listed if one not in aside]
    said = note("good" if passed else "bad", title)
    said += _table(words, words("gate.caption", version=version), shown)
    if aside:
        summary = escape(words("gate.fair", count=len(aside)))
        inside = _table(words, words("condition.fairness"), aside)
        said += f"<details><summary>{summary}</summary>{inside}</details>"
    return said


def _is_fairness(condition: Mapping[str, Any]) -> bool:
    return str(condition.get("name", "")).startswith("fairness.")


def _table(words: Words, caption: str, conditions: Sequence[Mapping[str, Any]]) -> str:
    rows: list[Sequence[Cell]] = []
    for one in conditions:
        good = bool(one.get("passed"))
        rows.append(
            [
                badge(words("gate.yes" if good else "gate.no"), "good" if good else "low"),
                _condition(words, str(one.get("name", ""))),
                figure(words, one.get("value"), 4),
                figure(words, one.get("limit"), 4),
                # The service's own words, in its own language.
                Safe(f'<span lang="en">{escape(str(one.get("detail", "")))}</span>'),
            ]
        )
    titles = [words(f"gate.{name}") for name in ("state", "condition", "value", "limit", "detail")]
    return table(words, caption, titles, rows)


def job(words: Words, found: Mapping[str, Any]) -> str:
    """Return how a training goes, or how it ended."""
    state = found.get("state")
    if state == "failed":
        text = words("models.train_failed", why=str(found.get("error") or ""))
        return note("bad", text)
    if state == "done":
        result = found.get("result") or {}
        text = words(
            "models.train_done",
            version=str(result.get("version", "?")),
            family=str(result.get("best_model", "?")),
            mae=figure(words, result.get("test_mae")),
            r2=figure(words, result.get("test_r2")),
        )
        return note("good", text)
    step = found.get("progress") or {}
    share = step.get("share")
    if isinstance(share, int | float):
        return progress(words, round(100 * share), 100, _step(words, step))
    bar = "<progress></progress>"
    text = escape(_step(words, step))
    return f'<div class="progress" role="status"><label>{text} {bar}</label></div>'


def log(words: Words, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return who changed the served version, when and why."""
    title = f"<h2>{escape(words('log.title'))}</h2>"
    if not rows:
        return title + note("info", words("log.empty"))
    shown: list[Sequence[Cell]] = [
        [
            when(words, str(row["at"])),
            words(f"log.{row['action']}"),
            str(row["actor"]),
            version_name(words, str(row.get("from_version") or "seed")),
            version_name(words, str(row["to_version"])),
            str(row.get("reason") or "—"),
        ]
        for row in rows[:100]
    ]
    titles = [words(f"log.{name}") for name in ("when", "what", "who", "from", "to", "why")]
    return title + table(words, words("log.caption"), titles, shown)


def _step(words: Words, step: Mapping[str, Any]) -> str:
    name = str(step.get("doing", ""))
    key = f"step.{name.replace(' ', '_').replace('-', '_')}"
    said = words(key) if words.has(key) else name
    return words("models.training_now") + (f" {said}" if said else "")


def _condition(words: Words, name: str) -> str:
    """Say a condition in words; of its parts, those that have words."""
    head, _, rest = name.partition(".")
    key = f"condition.{head}"
    said = words(key) if words.has(key) else head
    return f"{said} ({rest})" if rest else said


def _data(words: Words, dataset: Mapping[str, Any]) -> str:
    if not dataset:
        return "—"
    name = str(dataset.get("name", "—"))
    return words("models.synthetic", name=name) if dataset.get("synthetic") else name
