"""The HTML that Gradio sends, made ours before it leaves.

Gradio's own `head` is added by a script once the page runs; language and script of a page have to
be there when it is read. Its template also names pictures and accounts of other sites.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from gradio_ui.texts import LANGUAGES, Language

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SCRIPT = Path(__file__).with_name("page.js")
_ADVERTISING = re.compile(r"<meta\s+(?:property=\"og:|name=\"twitter:)[^>]*>\s*")
_LANGUAGE = re.compile(r"(<html\s+lang=)\"[^\"]*\"")


def ours(html: str, language: Language) -> str:
    """Return a page in its language, with our script first and nobody's advertising."""
    # "<" could end the script early.
    told = json.dumps({"language": language}).replace("<", "\\u003c")
    script = f"<script>window.studentSuccess = {told};\n{SCRIPT.read_text('utf-8')}</script>"
    html = _LANGUAGE.sub(rf'\1"{language}"', _ADVERTISING.sub("", html), count=1)
    return html.replace("<head>", f"<head>{script}", 1)


class Pages:
    """ASGI middleware that rewrites the page of each language, and passes on the rest."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._pages: dict[str, Language] = {f"/{language}": language for language in LANGUAGES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        language = None
        if scope["type"] == "http" and scope["method"] == "GET":
            language = self._pages.get(str(scope["path"]).rstrip("/"))
        if language is None:
            await self._app(scope, receive, send)
            return
        # A compressed page could not be read here.
        headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        await self._app({**scope, "headers": headers}, receive, _Rewriting(send, language))


class _Rewriting:
    def __init__(self, send: Send, language: Language) -> None:
        self._send, self._language = send, language
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = [pair for pair in self._start["headers"] if pair[0] != b"content-length"]
        body = self._body
        if any(name == b"content-type" and b"html" in value for name, value in headers):
            body = ours(body.decode("utf-8"), self._language).encode()
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
