"""Pieces of HTML. Whatever comes from a person, a file or the API passes through `escape` here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from gradio_ui.api_client import ApiError
from gradio_ui.texts import Words

Tone = Literal["info", "good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Safe:
    """HTML made by us, not to be escaped again."""

    html: str


Cell = str | Safe


def cell(value: Cell) -> str:
    """Return a cell's HTML."""
    return value.html if isinstance(value, Safe) else escape(value)


def note(tone: Tone, text: Cell, *, title: str = "") -> str:
    """Return a message; screen readers read it out when it appears."""
    role = "alert" if tone == "bad" else "status"
    heading = f"<strong>{escape(title)}</strong> " if title else ""
    return f'<div class="note {tone}" role="{role}"><p>{heading}{cell(text)}</p></div>'


def failure(words: Words, error: ApiError) -> str:
    """Say in the reader's language why the API did not do it."""
    key = f"error.{error.code}"
    if not words.has(key):
        key = "error.unavailable" if error.status >= 500 else "error.refused"
    text = escape(words(key))
    if error.status >= 500 and error.request_id:
        text += f" <small>{escape(words('error.request', id=error.request_id))}</small>"
    return note("bad", Safe(text))


def table(words: Words, caption: str, titles: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return a table; on a narrow screen each row becomes a card with its titles beside."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-title="{escape(title)}">{cell(value)}</td>'
            for title, value in zip(titles, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    if not body:
        return note("info", words("table.empty"))
    return (
        f'<div class="sheet" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def when(words: Words, iso: str) -> Safe:
    """Return a moment: UTC here, and the reader's own time once the browser has it."""
    return Safe(f'<time datetime="{escape(iso)}">{escape(words.moment(iso))}</time>')


def badge(text: str, tone: str) -> Safe:
    """Return a word on a coloured ground; the word alone says it all."""
    return Safe(f'<span class="badge {tone}">{escape(text)}</span>')


def facts(pairs: Iterable[tuple[str, Cell]]) -> str:
    """Return a list of figures with their names."""
    inside = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{cell(value)}</dd></div>" for name, value in pairs
    )
    return f'<dl class="facts">{inside}</dl>'


def progress(words: Words, done: int, total: int, text: str) -> str:
    """Return a progress bar with its words."""
    return (
        f'<div class="progress" role="status"><label>{escape(text)} '
        f'<progress max="{max(1, total)}" value="{done}">{done}</progress></label></div>'
    )
