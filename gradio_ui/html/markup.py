"""Build HTML. Text of a person, a file or the API becomes HTML here, and is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal

from gradio_ui.api_client import ApiError
from gradio_ui.texts import Texts

Tone = Literal["info", "good", "warn", "bad"]


class Html(str):
    """HTML built by this package, which `element` does not escape again."""

    __slots__ = ()


def element(tag: str, *content: str, css: str = "", **attributes: str) -> Html:
    """Return an element.

    Parameters
    ----------
    content
        Elements and text; text is escaped.
    css
        Value of its ``class``.
    attributes
        Further attributes; underscores in their names stand for hyphens.
    """
    named = {"class": css, **attributes} if css else attributes
    written = "".join(f' {name.replace("_", "-")}="{escape(v)}"' for name, v in named.items())
    return Html(f"<{tag}{written}>{''.join(map(_written, content))}</{tag}>")


def _written(content: str) -> str:
    return content if isinstance(content, Html) else escape(content)


def heading(text: str) -> Html:
    """Return a heading of a part of a tab."""
    return element("h2", text)


def paragraph(text: str, css: str = "") -> Html:
    """Return a paragraph."""
    return element("p", text, css=css)


def items(contents: Iterable[str], tag: Literal["ul", "ol"] = "ul") -> Html:
    """Return a list."""
    return element(tag, *(element("li", content) for content in contents))


def figure(picture: Html, caption: str) -> Html:
    """Return a picture with its caption."""
    return element("figure", picture, element("figcaption", caption))


def note(tone: Tone, text: str) -> Html:
    """Return a message; screen readers read it out when it appears."""
    role = "alert" if tone == "bad" else "status"
    return element("div", element("p", text), css=f"note {tone}", role=role)


def api_error(texts: Texts, error: ApiError) -> Html:
    """Explain in the reader's language why the API did not do something."""
    fallback = texts("error.unavailable" if error.status >= 500 else "error.refused")
    text = escape(texts.get(f"error.{error.code}", fallback))
    if error.status >= 500 and error.request_id:
        text += f" {element('small', texts('error.request', id=error.request_id))}"
    return note("bad", Html(text))


def table(texts: Texts, caption: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """Return a table; on a narrow screen each row becomes a card that repeats the titles."""
    body = [
        element(
            "tr",
            *(
                element("td", content, data_title=title)
                for title, content in zip(titles, row, strict=True)
            ),
        )
        for row in rows
    ]
    if not body:
        return note("info", texts("table.empty"))
    head = element("tr", *(element("th", title, scope="col") for title in titles))
    content = element(
        "table", element("caption", caption), element("thead", head), element("tbody", *body)
    )
    return element("div", content, css="sheet", role="region", tabindex="0", aria_label=caption)


def local_time(texts: Texts, iso: str) -> Html:
    """Return a time in UTC; the script of the page replaces it with the reader's local time."""
    return element("time", texts.timestamp(iso), datetime=iso)


def badge(text: str, tone: str) -> Html:
    """Return a word on a coloured background; the word says the same as the colour."""
    return element("span", text, css=f"badge {tone}")


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """Return a list of figures with their names."""
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value)) for name, value in pairs),
        css="facts",
    )


def progress(text: str, done: int | None = None, total: int = 100) -> Html:
    """Return a progress bar with its text; without `done` the bar shows no amount."""
    if done is None:
        bar = element("progress")
    else:
        bar = element("progress", str(done), max=str(max(1, total)), value=str(done))
    label = element("label", f"{text} ", bar)
    return element("div", label, css="progress", role="status")
