"""Everything that relies on undocumented parts of Gradio, with the reason for each.

`tests/unit/gradio_ui/web/test_gradio_internals.py` compares each part with the installed version.
No other module of this package relies on such parts; `style.css` and `page.js` use the names in
`CSS_NAMES`.
"""

from __future__ import annotations

import re
from typing import Any

from gradio_ui.texts import LANGUAGES, Language

_LANGUAGES = "|".join(LANGUAGES)

READ_ROUTES = (
    "/",
    "/config",
    "/theme.css",
    "/favicon.ico",
    "/manifest.json",
    "/assets/.+",
    "/static/.+",
    "/svelte/.+",
    "/gradio_api/app_id",
    "/gradio_api/info",
    "/gradio_api/theme.css",
    "/gradio_api/startup-events",
    "/gradio_api/queue/data",
    "/gradio_api/heartbeat/[A-Za-z0-9-]+",
    "/gradio_api/call/[A-Za-z0-9_/]+",
)
WRITE_ROUTES = (
    "/gradio_api/queue/join",
    "/gradio_api/cancel",
    "/gradio_api/reset/?",
    "/gradio_api/call/[A-Za-z0-9_]+",
)
"""The routes below a language that Gradio's page and `gradio_client` use.

Gradio also serves files, uploads, a proxy and its own pages, and offers no setting that turns them
off. Only these routes are let through. The page asks for `app_id` until a lost connection is back.
"""

CSS_NAMES = (
    "block",
    "column",
    "container",
    "fillable",
    "form",
    "gradio-container",
    "hide",
    "html-container",
    "info-text",
    "label-wrap",
    "main",
    "prose",
    "selected",
    "tab-container",
    "tabitem",
    "wrap",
    "wrap-inner",
)
"""Classes of Gradio's page. Its theme cannot set the layout of a form, a tab or the whole page."""

TEST_IDS = ("block-info", "toast-text")
"""Values of `data-testid`. `page.js` finds labels by them, to connect them with their fields, and
the message about a lost connection, which Gradio writes in English only."""

QUEUE_SECONDS = 0.02
MAX_PAGES = 300
"""Pages of one language for which Gradio keeps its state, of one to two MB each."""

_HEARTBEAT = re.compile(r"/gradio_api/heartbeat/([A-Za-z0-9-]+)$")
_OTHER_SITES = re.compile(r"<meta\s+(?:property=\"og:|name=\"twitter:)[^>]*>\s*")
_HTML_LANGUAGE = re.compile(r"(<html\s+lang=)\"[^\"]*\"")


def route_pattern(routes: tuple[str, ...], *others: str) -> re.Pattern[str]:
    """Return what matches the paths of `routes` below each language, and the paths `others`."""
    return re.compile("|".join([*others, rf"/(?:{_LANGUAGES})(?:|{'|'.join(routes)})"]))


def session_of_heartbeat(path: str) -> str | None:
    """Return the session hash in the path of a heartbeat; other routes have it in the query."""
    match = _HEARTBEAT.search(path)
    return match[1] if match else None


def prepare_page(html: str, language: Language, script: str) -> str:
    """Return Gradio's page in its language, with `script` first and no links to other sites.

    Gradio's template has a fixed language and names pictures and accounts of other sites. The
    `head` parameter of `gr.Blocks` adds scripts only after the page has started.
    """
    html = _HTML_LANGUAGE.sub(rf'\1"{language}"', _OTHER_SITES.sub("", html), count=1)
    return html.replace("<head>", f"<head>{script}", 1)


def refuse_file_paths(blocks: Any) -> None:
    """Let Gradio check the paths that a client sends as files.

    Gradio 6.31 checks them only in pages that were launched, not in mounted ones. No callback here
    takes a path; with this, Gradio refuses a path before it reaches a callback.
    """
    blocks.has_launched = True


def poll_queue_less_often(blocks: Any) -> None:
    """Let Gradio look for waiting callbacks every 20 ms; it looks every millisecond otherwise.

    Every millisecond takes 4 % of a core while no page is open.
    """
    blocks._queue.sleep_when_free = QUEUE_SECONDS


def keep_fewer_pages(blocks: Any) -> None:
    """Let Gradio keep the state of the pages used last; by default 10,000, which is 10 GB or more.

    A mounted page has no parameter for it. A page whose state was dropped may have to be loaded
    again; the visit goes on, because what was entered is in `Visits`.
    """
    blocks.state_session_capacity = MAX_PAGES
