"""Change the page that Gradio sends: its language, and a script that runs first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gradio_ui.texts import LANGUAGES, Language, Texts
from gradio_ui.web.gradio_internals import prepare_page

SCRIPT = Path(__file__).with_name("page.js")


class BehindProxy:
    """ASGI middleware that removes `ROOT_PATH` from paths, and answers HEAD as GET."""

    def __init__(self, app: ASGIApp, strip_root: Callable[[str], str]) -> None:
        self._app, self._strip_root = app, strip_root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the server sends no body to HEAD."""
        if scope["type"] == "http":
            path = self._strip_root(scope["path"])
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            scope = {**scope, "path": path, "raw_path": path.encode(), "method": method}
        await self._app(scope, receive, send)


class PageMiddleware:
    """ASGI middleware that changes the page of each language and passes on all other answers."""

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app, self._root_path = app, root_path
        self._pages: dict[str, Language] = {f"/{language}": language for language in LANGUAGES}
        self._script = SCRIPT.read_text("utf-8")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        language = None
        if scope["type"] == "http" and scope["method"] == "GET":
            language = self._pages.get(str(scope["path"]).rstrip("/"))
        if self._root_path and scope["type"] == "http":
            # Gradio makes the addresses in its page from these.
            path = self._root_path + scope["path"]
            scope = {**scope, "path": path, "raw_path": path.encode()}
            scope["root_path"] = self._root_path
        if language is None:
            await self._app(scope, receive, send)
            return
        # Without this header the page comes uncompressed and can be changed.
        headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        sender = _PageSender(send, language, self._script)
        await self._app({**scope, "headers": headers}, receive, sender)


class _PageSender:
    """Collect the page, change it, and send it with its new length."""

    def __init__(self, send: Send, language: Language, script: str) -> None:
        self._send, self._language, self._script = send, language, script
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = self._body
        headers = MutableHeaders(scope=self._start)
        if "html" in headers.get("content-type", ""):
            # "<" inside a value could end the script.
            texts = Texts(self._language)
            lost = {"title": texts("lost.title"), "text": texts("lost.text")}
            settings = json.dumps({"language": self._language, "lost": lost})
            settings = settings.replace("<", "\\u003c")
            script = f"<script>window.studentSuccess = {settings};\n{self._script}</script>"
            body = prepare_page(body.decode("utf-8"), self._language, script).encode()
        headers["content-length"] = str(len(body))
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})
