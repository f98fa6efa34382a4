"""What the server remembers of each visitor: in memory, separately, and for a limited time."""

from __future__ import annotations

import base64
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradio_ui.files.rows import Earlier, ScoredPupil
from student_success.domain.tables.columns import Choices
from student_success.domain.tables.pupils import PupilList

if TYPE_CHECKING:
    import gradio as gr

    from gradio_ui.scoring import Scoring

COOKIE = "visitor"
IDLE_SECONDS = 2 * 3600.0
ADMIN_IDLE_SECONDS = 30 * 60.0
MAX_VISITS = 1000
"""Above this number the visit that was idle longest is forgotten."""
MAX_ROWS = 200_000
"""Above this number of rows in the class lists of all visits, the lists idle longest are forgotten.

A row takes 1 to 2 kB.
"""


class OtherBrowserError(Exception):
    """A request names a page that another browser opened."""


class SessionCodes:
    """The names of the API sessions that the interface makes and opens.

    With a key, the API serves only callers with a token, such as this interface. Then a visitor may
    open only sessions that the interface has made: knowing the name of another one is not enough.

    Parameters
    ----------
    key
        The API token; the same after a restart, so that codes stay valid. None if the API is open.
    """

    def __init__(self, key: str | None) -> None:
        self._is_open = key is None
        self._key = (key or "").encode()

    def of(self, tab_code: str) -> str:
        """Return the session of a tab, which the browser cannot choose by the code of the tab."""
        name = self._digest("tab", tab_code)
        return f"{name}.{self._digest('code', name)}"

    def new(self) -> str:
        """Return the session of a page that has named no tab."""
        return self.of(secrets.token_urlsafe(12))

    def may_open(self, code: str) -> bool:
        """Tell whether a visitor who knows this code may open its session."""
        name, _, digest = code.partition(".")
        return self._is_open or _same_text(digest, self._digest("code", name))

    def _digest(self, purpose: str, text: str) -> str:
        digest = hmac.digest(self._key, f"{purpose}:{text}".encode(), "sha256")
        return base64.urlsafe_b64encode(digest[:12]).decode()


@dataclass(slots=True)
class ShownPupil:
    """The pupil that an answer shows.

    Attributes
    ----------
    body
        The request body of ``POST /predict``.
    prediction
        Its answer.
    explanation
        The answer of ``POST /explain``; None until it has been read.
    name
        What the reader calls the pupil, or "".
    """

    body: dict[str, Any]
    prediction: Mapping[str, Any]
    explanation: Mapping[str, Any] | None = None
    name: str = ""


@dataclass(slots=True)
class Visit:
    """One open page.

    Attributes
    ----------
    owner
        The cookie of the browser that opened the page.
    code
        The API session that its predictions belong to.
    tab_code
        The random code by which the page names its tab of the browser.
    lost
        Whether the page continues a visit that this process does not know; shown once.
    form
        What stood in the form when the last page of the tab ended.
    pupil
        The pupil that the answer beside the form shows.
    class_pupil
        The pupil of the class list that is shown beside it; `opened` is its line.
    shown_rows
        Rank and pupil of the rows on the page of the class list.
    reasons
        The main reasons of each pupil whose reasons have been read, by language and line.
    invalid_fields
        The form fields that are marked as invalid at present.
    previous_pages
        For each page of the history turned so far, the ``before_id`` it was read with.
    banner
        The last state of the API that the page has shown.
    class_name
        Name of the file of the class, and of the sheet that was chosen.
    scored_at
        When the class was predicted (ISO 8601).
    saved_estimates
        The estimates that the class list holds if it is a saved result, by line.
    choices
        What the reader said about class lists, by their titles.
    versions
        The registered versions as they were read last.
    versions_outdated
        Whether the list of versions must be read again.
    """

    owner: str
    code: str
    last_used: float = field(default_factory=time.monotonic)
    tab_code: str = ""
    lost: bool = False
    form: dict[str, str] = field(default_factory=dict)
    invalid_fields: frozenset[str] = frozenset()
    pupil: ShownPupil | None = None
    class_file: PupilList | None = None
    saved_estimates: dict[int, Earlier] = field(default_factory=dict)
    choices: dict[tuple[str, ...], Choices] = field(default_factory=dict)
    scoring: Scoring | None = None
    scored: tuple[ScoredPupil, ...] = ()
    class_name: str = ""
    scored_at: str = ""
    shown_rows: list[tuple[int, ScoredPupil]] = field(default_factory=list)
    reasons: dict[str, dict[int, str]] = field(default_factory=dict)
    sorted_by: str = ""
    descending: bool = False
    opened: int | None = None
    class_pupil: ShownPupil | None = None
    history: tuple[dict[str, Any], ...] = ()
    previous_pages: tuple[int, ...] = ()
    job_id: str | None = None
    banner: str | None = None
    versions: tuple[Mapping[str, Any], ...] = ()
    versions_outdated: bool = True
    _admin_token: str | None = field(default=None, repr=False)
    _admin_last_used: float = 0.0

    @property
    def rows(self) -> int:
        """Rows of class lists that are kept."""
        read = self.class_file
        return len(self.scored) + (len(read.pupils) + len(read.invalid) if read else 0)

    @property
    def admin_token(self) -> str | None:
        """The administrator's token; it is forgotten after half an hour without use."""
        if time.monotonic() - self._admin_last_used > ADMIN_IDLE_SECONDS:
            self._admin_token = None
        if self._admin_token is not None:
            self._admin_last_used = time.monotonic()
        return self._admin_token

    @admin_token.setter
    def admin_token(self, token: str | None) -> None:
        self._admin_token, self._admin_last_used = token, time.monotonic()


class Visits:
    """Every open page, by the random session hash that Gradio gives it."""

    def __init__(self, codes: SessionCodes) -> None:
        self.codes = codes
        self._lock = threading.Lock()
        self._visits: OrderedDict[str, Visit] = OrderedDict()

    def of(self, request: gr.Request) -> Visit:
        """Return the visit that a request belongs to; a new one for a new page.

        Raises
        ------
        OtherBrowserError
            If another browser opened the page.
        """
        cookie = str((request.cookies or {}).get(COOKIE, ""))
        session_hash = request.session_hash or ""
        now = time.monotonic()
        with self._lock:
            visit = self._visits.get(session_hash)
            if visit is None or now - visit.last_used > IDLE_SECONDS:
                visit = self._visits[session_hash] = Visit(cookie, self.codes.new())
            if not _same_text(visit.owner, cookie):
                raise OtherBrowserError
            visit.last_used = now
            self._visits.move_to_end(session_hash)
            self._forget_expired(now)
            return visit

    def allows(self, session_hash: str, cookie: str) -> bool:
        """Tell whether a browser may read the answers of a page."""
        with self._lock:
            visit = self._visits.get(session_hash)
        return visit is None or _same_text(visit.owner, cookie)

    def open(self, request: gr.Request, tab_code: str, *, known: bool) -> Visit:
        """Continue the visit of a tab of the browser, or begin one.

        Parameters
        ----------
        tab_code
            The random code by which the page names its tab.
        known
            Whether the tab had this code before this page. If it had and no visit is found, the
            visit is marked as lost: the interface was restarted, or the tab was idle for too long.
        """
        visit = self.of(request)
        with self._lock:
            before = self._find(visit.owner, tab_code)
            if before is not None:
                visit = self._visits[request.session_hash or ""] = before
            else:
                visit.tab_code = tab_code
                if tab_code:
                    visit.code = self.codes.of(tab_code)
                visit.lost = known
        return visit

    def keep_form(self, cookie: str, tab_code: str, form: dict[str, str]) -> None:
        """Keep the content of a form for the next page of the same tab of the browser."""
        if not cookie:
            return
        with self._lock:
            visit = self._find(cookie, tab_code)
            if visit is None:
                # No page of this process has used the code: the interface was restarted.
                visit = Visit(cookie, self.codes.of(tab_code), tab_code=tab_code, lost=True)
                self._visits[tab_code] = visit
            visit.form, visit.last_used = form, time.monotonic()

    def _find(self, owner: str, tab_code: str) -> Visit | None:
        for visit in self._visits.values():
            if visit.tab_code and _same_text(visit.tab_code, tab_code):
                return visit if owner and _same_text(visit.owner, owner) else None
        return None

    def _forget_expired(self, now: float) -> None:
        while self._visits:
            session_hash, oldest = next(iter(self._visits.items()))
            if now - oldest.last_used <= IDLE_SECONDS and len(self._visits) <= MAX_VISITS:
                break
            del self._visits[session_hash]
        # A visit has one entry for each page that its tab has opened.
        visits = list({id(visit): visit for visit in self._visits.values()}.values())
        visits.sort(key=lambda visit: visit.last_used)
        rows = sum(visit.rows for visit in visits)
        for visit in visits[:-1]:
            if rows <= MAX_ROWS:
                break
            rows -= visit.rows
            visit.class_file, visit.scored = None, ()


def _same_text(left: str, right: str) -> bool:
    return secrets.compare_digest(left.encode(), right.encode())
