"""Decide which requests reach the interface, and set the security headers of every answer.

Gradio serves more than this interface needs (files, proxies, its own pages). Every route that the
page does not use answers 404.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gradio_ui.texts import LANGUAGES
from gradio_ui.visitor_state import COOKIE, Visits
from gradio_ui.web.gradio_internals import (
    READ_ROUTES,
    WRITE_ROUTES,
    route_pattern,
    session_of_heartbeat,
)

_READ = route_pattern(READ_ROUTES, "/", "/livez", r"/favicon\.ico")
_WRITE = route_pattern((*WRITE_ROUTES, "/keep"))
_PAGES = {f"/{language}" for language in LANGUAGES}
_FORM_BYTES = 1 << 20
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
_REFUSALS = {
    400: "two hosts",
    403: "forbidden",
    404: "not found",
    413: "too large",
    421: "unknown host",
}


class AccessControl:
    """ASGI middleware around the whole interface.

    Parameters
    ----------
    upload_bytes
        Size of the largest file that a callback accepts.
    allows_host
        Whether a request may be addressed to this host.
    root_path
        Path below which browsers see the interface.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        visits: Visits,
        upload_bytes: int,
        allows_host: Callable[[str], bool],
        root_path: str = "",
    ) -> None:
        self._app, self._visits, self._allows_host = app, visits, allows_host
        self._cookie_path = root_path or "/"
        # A file is sent as base64: four characters for three bytes.
        self._max_body_bytes = upload_bytes * 4 // 3 + _FORM_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = Request(scope)
        # Gradio reads cookies in the same way, so that both see the same visitor.
        cookie = request.cookies.get(COOKIE, "")
        send = _with_headers(request, send, None if cookie else self._cookie_path)
        status = self._refusal(request, cookie)
        if status is None:
            await self._app(scope, _limit_body(receive, self._max_body_bytes), send)
        else:
            response = PlainTextResponse(_REFUSALS[status], status_code=status)
            await response(scope, receive, send)

    def _refusal(self, request: Request, cookie: str) -> int | None:
        hosts = request.headers.getlist("host")
        if len(hosts) > 1:
            return 400
        if not all(self._allows_host(host) for host in hosts):
            return 421
        path, method = request.scope["path"], request.method
        allowed = _WRITE if method == "POST" else _READ
        if method not in ("GET", "HEAD", "POST") or not allowed.fullmatch(path):
            return 404
        sessions = [session_of_heartbeat(path), *request.query_params.getlist("session_hash")]
        if not all(self._visits.allows(name, cookie) for name in sessions if name is not None):
            return 403
        length = request.headers.get("content-length", "0")
        return None if length.isdigit() and int(length) <= self._max_body_bytes else 413


def _limit_body(receive: Receive, max_bytes: int) -> Receive:
    """Disconnect a client whose body has no stated length and exceeds the limit."""
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        return {"type": "http.disconnect"} if received > max_bytes else message

    return limited


def _with_headers(request: Request, send: Send, cookie_path: str | None) -> Send:
    """Add the security headers, and a cookie with this path for a browser that has none."""
    is_page = request.scope["path"].rstrip("/") in _PAGES

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), *_HEADERS]
            if is_page:
                headers.append((b"cache-control", b"no-store"))
            if is_page and cookie_path:
                value = f"{COOKIE}={secrets.token_urlsafe(24)}; Path={cookie_path}; HttpOnly"
                # A proxy may end TLS; a false header concerns only the client that sends it.
                https = request.headers.get("x-forwarded-proto", "").startswith("https")
                value += "; SameSite=Lax" + ("; Secure" if https else "")
                headers.append((b"set-cookie", value.encode()))
            message = {**message, "headers": headers}
        await send(message)

    return sender
