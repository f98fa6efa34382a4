"""A class list on screen: what is wrong with it, and the pupils ranked by risk."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Literal, get_args

from gradio_ui.files.class_file import ClassFile
from gradio_ui.files.rows import BadCell, Scored
from gradio_ui.html.grade_scale import distribution, strip
from gradio_ui.html.markup import Cell, Safe, badge, facts, note, table
from gradio_ui.html.result import horizon_name
from gradio_ui.texts import Words
from student_success.domain.students import FEATURE_NAMES

Filter = Literal["all", "at_risk", "fail", "pass"]
FILTERS: tuple[Filter, ...] = get_args(Filter)
PAGE = 50
_BAD_SHOWN = 200


def summary(words: Words, found: ClassFile) -> str:
    """Say what was read, and what has to be corrected."""
    tone: Any = "good" if not found.bad else "warn"
    parts = [words("class.read", rows=words.number(found.rows, 0))]
    if found.bad:
        parts.append(
            words(
                "class.bad",
                bad=words.number(len(found.bad), 0),
                good=words.number(len(found.pupils), 0),
            )
        )
    else:
        parts.append(words("class.all_good"))
    if found.ignored:
        listed = ", ".join(found.ignored[:20]) + ("…" if len(found.ignored) > 20 else "")
        parts.append(words("class.ignored", columns=listed))
    return note(tone, " ".join(parts)) + _bad_cells(words, found.bad)


def bad_rows(words: Words, bad: Sequence[BadCell]) -> list[list[Any]]:
    """Return every bad cell as a row for a file."""
    return [[one.line or "", one.column, one.value, words(one.key, **one.values)] for one in bad]


def bad_titles(words: Words) -> list[str]:
    """Return the titles of `bad_rows`."""
    return [words(f"bad.{name}") for name in ("line", "column", "value", "why")]


def _bad_cells(words: Words, bad: Sequence[BadCell]) -> str:
    if not bad:
        return ""
    rows = [[str(cell) for cell in row] for row in bad_rows(words, bad[:_BAD_SHOWN])]
    html = table(words, words("bad.caption"), bad_titles(words), rows)
    if len(bad) > _BAD_SHOWN:
        html += note("info", words("bad.more", shown=_BAD_SHOWN, total=words.number(len(bad), 0)))
    return html


def overview(words: Words, scored: Sequence[Scored]) -> str:
    """Return the class as a whole: figures and the distribution."""
    failing = sum(not one.passes for one in scored)
    at_risk = sum(one.at_risk for one in scored)
    mean = sum(one.grade for one in scored) / len(scored)
    figures = facts(
        [
            (words("class.count"), words.number(len(scored), 0)),
            (words("class.mean"), f"{words.number(mean)} / 20"),
            (words("class.failing"), words.number(failing, 0)),
            (words("class.at_risk"), words.number(at_risk, 0)),
        ]
    )
    title = escape(words("class.distribution"))
    picture = distribution(words, scored)
    return (
        f'<div class="overview">{figures}<figure>{picture}<figcaption>{title}</figcaption>'
        "</figure></div>"
    )


def ranked(scored: Sequence[Scored]) -> tuple[Scored, ...]:
    """Sort the pupils by risk, the one most in danger of failing first."""
    return tuple(sorted(scored, key=lambda one: (one.probability, one.grade, one.pupil.line)))


def chosen(scored: Sequence[Scored], kind: str, search: str) -> list[tuple[int, Scored]]:
    """Return rank and pupil of those that a filter and a search let through."""
    wanted = search.strip().casefold()
    return [
        (rank, one)
        for rank, one in enumerate(scored, 1)
        if _kept(one, kind) and (not wanted or wanted in name_of(one).casefold())
    ]


def _kept(one: Scored, kind: str) -> bool:
    if kind == "at_risk":
        return one.at_risk
    return kind not in ("fail", "pass") or one.passes == (kind == "pass")


def name_of(one: Scored) -> str:
    """Return how the reader knows a pupil: by reference, else by line."""
    return one.pupil.reference or f"#{one.pupil.line}"


def pages(count: int) -> int:
    """Return how many pages a table of `count` rows has."""
    return max(1, -(-count // PAGE))


def ranking(words: Words, rows: Sequence[tuple[int, Scored]], page: int) -> str:
    """Return one page of the ranked pupils."""
    titles = [
        words(f"rank.{name}")
        for name in ("place", "pupil", "probability", "grade", "interval", "verdict", "known")
    ]
    shown: list[list[Cell]] = []
    for rank, one in rows[page * PAGE : (page + 1) * PAGE]:
        verdict = badge(
            words("rank.pass" if one.passes else "rank.fail"), "good" if one.passes else "low"
        )
        watch = badge(words("rank.at_risk"), "watch").html if one.at_risk else ""
        shown.append(
            [
                str(rank),
                name_of(one),
                words.percent(one.probability),
                words.number(one.grade),
                Safe(
                    f'<span class="nowrap">{strip(words, one)}'
                    f"<small>{one.low}–{one.high}</small></span>"
                ),
                Safe(f"{verdict.html} {watch}"),
                horizon_name(words, one.horizon),
            ]
        )
    return table(words, words("rank.caption"), titles, shown)


def result_titles(words: Words) -> list[str]:
    """Return the titles of `result_rows`."""
    names = ("place", "line", "reference", "grade", "low", "high", "probability", "verdict")
    own = [words(f"file.{name}") for name in (*names, "at_risk", "known", "version")]
    return [*own, *FEATURE_NAMES]


def result_rows(words: Words, rows: Sequence[tuple[int, Scored]]) -> list[list[Any]]:
    """Return ranked pupils as rows for a file: the answer first, then what was sent."""
    yes, no = words("file.yes"), words("file.no")
    return [
        [
            rank,
            one.pupil.line,
            one.pupil.reference,
            one.grade,
            one.low,
            one.high,
            round(one.probability, 4),
            words("rank.pass" if one.passes else "rank.fail"),
            yes if one.at_risk else no,
            horizon_name(words, one.horizon),
            one.version,
            *(one.pupil.features.get(name) for name in FEATURE_NAMES),
        ]
        for rank, one in rows
    ]
