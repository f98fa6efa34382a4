"""What the interface keeps of each visitor: in memory, apart from all others, not for long."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from gradio_ui.files.class_file import ClassFile
from gradio_ui.files.rows import Scored

COOKIE = "visitor"
IDLE_SECONDS = 2 * 3600.0
ADMIN_IDLE_SECONDS = 30 * 60.0
HAND_OVER_SECONDS = 60.0
MOST_VISITS = 1000
"""Beyond this, the visit that was idle longest is forgotten."""


class StrangerError(Exception):
    """A request names a page that another browser opened."""


def new_code() -> str:
    """Make a session code: it opens that session's history, so it cannot be guessed."""
    return secrets.token_urlsafe(12)


@dataclass(slots=True)
class Visit:
    """One open page.

    Attributes
    ----------
    owner
        The cookie of the browser that opened it.
    code
        The API session that its predictions belong to.
    """

    owner: str
    code: str = field(default_factory=new_code)
    seen: float = field(default_factory=time.monotonic)
    tab: str = "pupil"
    form: dict[str, Any] = field(default_factory=dict)
    marked: frozenset[str] = frozenset()
    pupil: dict[str, Any] | None = None
    answer: dict[str, Any] | None = None
    explanation: dict[str, Any] | None = None
    class_file: ClassFile | None = None
    scored: tuple[Scored, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    before: tuple[int, ...] = ()
    job_id: str | None = None
    banner: str | None = None
    stale: bool = True
    _admin: str | None = field(default=None, repr=False)
    _admin_seen: float = 0.0

    @property
    def admin(self) -> str | None:
        """The administrator's token, forgotten after half an hour without use."""
        if time.monotonic() - self._admin_seen > ADMIN_IDLE_SECONDS:
            self._admin = None
        if self._admin is not None:
            self._admin_seen = time.monotonic()
        return self._admin

    @admin.setter
    def admin(self, token: str | None) -> None:
        self._admin, self._admin_seen = token, time.monotonic()


class Visits:
    """Every open page, by the random name Gradio gives it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Visit] = OrderedDict()
        self._left: dict[str, tuple[float, Visit]] = {}

    def of(self, request: gr.Request) -> Visit:
        """Return the visit a request belongs to, a new one for a new page.

        Raises
        ------
        StrangerError
            If the page was opened by another browser.
        """
        cookie = str((request.cookies or {}).get(COOKIE, ""))
        name = request.session_hash or ""
        now = time.monotonic()
        with self._lock:
            visit = self._open.get(name)
            if visit is None or now - visit.seen > IDLE_SECONDS:
                visit = self._open[name] = Visit(cookie)
            if not secrets.compare_digest(visit.owner.encode(), cookie.encode()):
                raise StrangerError
            visit.seen = now
            self._open.move_to_end(name)
            self._sweep(now)
            return visit

    def allows(self, name: str, cookie: str) -> bool:
        """Tell whether a browser may listen to the answers of a page."""
        with self._lock:
            visit = self._open.get(name)
        return visit is None or secrets.compare_digest(visit.owner.encode(), cookie.encode())

    def hand_over(self, request: gr.Request) -> None:
        """Leave this visit for the page the same browser opens next, in the other language."""
        visit = self.of(request)
        if visit.owner:
            with self._lock:
                self._left[visit.owner] = (time.monotonic(), visit)

    def take_over(self, request: gr.Request) -> Visit | None:
        """Go on with the visit left a moment ago, if there is one."""
        fresh = self.of(request)
        with self._lock:
            at, visit = self._left.pop(fresh.owner, (0.0, fresh))
            if visit is fresh or time.monotonic() - at > HAND_OVER_SECONDS:
                return None
            self._open[request.session_hash or ""] = visit
            visit.banner = None
            return visit

    def _sweep(self, now: float) -> None:
        while self._open:
            name, oldest = next(iter(self._open.items()))
            if now - oldest.seen <= IDLE_SECONDS and len(self._open) <= MOST_VISITS:
                break
            del self._open[name]
        for owner, (at, _) in list(self._left.items()):
            if now - at > HAND_OVER_SECONDS:
                del self._left[owner]
