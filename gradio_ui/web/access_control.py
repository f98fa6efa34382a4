"""The edge of the interface: what may be asked of it, by whom, and what a browser may do with it.

Gradio serves more than this interface needs (files, proxies, its own pages). Only what the page
uses is let through; the rest does not exist.
"""

from __future__ import annotations

import re
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse

from gradio_ui.texts import LANGUAGES
from gradio_ui.visitor_state import COOKIE, Visits
from gradio_ui.web.document import App, Message, Receive, Scope, Send

_LANGUAGE = "|".join(LANGUAGES)
_READ = re.compile(
    rf"/|/livez|/favicon\.ico|/({_LANGUAGE})|/({_LANGUAGE})/(|config|theme\.css|favicon\.ico"
    r"|manifest\.json|assets/.+|static/.+|svelte/.+"
    r"|gradio_api/(info|theme\.css|startup-events|queue/data"
    r"|heartbeat/[A-Za-z0-9-]+|call/[A-Za-z0-9_/]+))"
)
_WRITE = re.compile(rf"/({_LANGUAGE})/gradio_api/(queue/join|cancel|reset/?|call/[A-Za-z0-9_]+)")
_HEARTBEAT = re.compile(r"/gradio_api/heartbeat/([A-Za-z0-9-]+)$")
_BODY_BYTES = 1 << 20
"""Enough for a form and a long list of outcomes."""

_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        # Gradio's page starts from inline scripts and makes functions from text.
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        b"connect-src 'self' blob: data:; worker-src 'self' blob:; object-src 'none'; "
        b"base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Guard:
    """ASGI middleware around everything.

    Parameters
    ----------
    upload_bytes
        Largest file that a callback takes.
    """

    def __init__(self, app: App, *, visits: Visits, upload_bytes: int) -> None:
        self._app, self._visits = app, visits
        # A file travels as text, four letters for three bytes.
        self._limit = upload_bytes * 4 // 3 + _BODY_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        path, method = str(scope["path"]), str(scope["method"])
        cookie = _cookie(scope)
        send = _answering(scope, send, cookie)
        wanted = _WRITE if method == "POST" else _READ
        if method not in ("GET", "HEAD", "POST") or not wanted.fullmatch(path):
            await _refuse(404, scope, receive, send)
        elif not self._is_own(scope, path, cookie):
            await _refuse(403, scope, receive, send)
        elif _length(scope) > self._limit:
            await _refuse(413, scope, receive, send)
        else:
            bounded = _bounded(receive, self._limit)
            await self._app(scope, bounded, send)

    def _is_own(self, scope: Scope, path: str, cookie: str) -> bool:
        """Whether the page that is asked about was opened by this browser."""
        beat = _HEARTBEAT.search(path)
        if beat is not None:
            return self._visits.allows(beat[1], cookie)
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        return all(self._visits.allows(name, cookie) for name in query.get("session_hash", ()))


def _cookie(scope: Scope) -> str:
    header = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
    try:
        found = SimpleCookie(header.decode("latin-1")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 1 << 62
    return 0


def _bounded(receive: Receive, limit: int) -> Receive:
    """Cut off a body that says nothing of its length and does not end."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > limit else message

    return bounded


def _answering(scope: Scope, send: Send, cookie: str) -> Send:
    """Add our headers, and a cookie for a browser that has none."""
    page = str(scope["path"]).rstrip("/") in {f"/{language}" for language in LANGUAGES}

    async def answering(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), *_HEADERS]
            if page:
                headers.append((b"cache-control", b"no-store"))
                if not cookie:
                    value = f"{COOKIE}={secrets.token_urlsafe(24)}; Path=/; HttpOnly; SameSite=Lax"
                    headers.append((b"set-cookie", value.encode()))
            message = {**message, "headers": headers}
        await send(message)

    return answering


async def _refuse(status: int, scope: Scope, receive: Receive, send: Send) -> None:
    words = {403: "forbidden", 404: "not found", 413: "too large"}[status]
    await PlainTextResponse(words, status_code=status)(scope, receive, send)
