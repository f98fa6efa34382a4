"""Send requests to the HTTP API; no other module of the interface opens a connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

UNREACHABLE = "unreachable"
TIMEOUT = "timeout"
HEALTH_SECONDS = 2.0
"""How long one answer of ``GET /health`` is reused for every visitor."""
MAX_RETRY_AFTER_SECONDS = 5.0
DEFAULT_TIMEOUT = httpx.Timeout(10.0, connect=2.0)
"""In seconds, unless a call sets its own limit."""


@dataclass(frozen=True, slots=True)
class ApiError(Exception):
    """The API refused a request or did not answer.

    Attributes
    ----------
    code
        The stable code of the error envelope; `UNREACHABLE` or `TIMEOUT` without an answer.
    status
        The HTTP status; 0 without an answer.
    message
        The API's English sentence. Readers see the text of `code` where there is one.
    retry_after
        Seconds to wait before the next attempt, as the API asks.
    """

    code: str
    status: int = 0
    message: str = ""
    details: Sequence[Mapping[str, Any]] = ()
    request_id: str = ""
    retry_after: float = 0.0

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (0, 429, 502, 503, 504)


class ApiClient:
    """Call the routes of the API. One instance serves every visitor and stores no visitor data.

    Parameters
    ----------
    token
        The API token, sent with each call that passes no token of its own.
    """

    def __init__(self, base_url: str, *, token: str | None = None) -> None:
        self._token = token
        # trust_env: pupils' data must not go through a proxy that the environment names.
        self._http = httpx.Client(base_url=base_url, timeout=DEFAULT_TIMEOUT, trust_env=False)
        self._health: dict[str, Any] | ApiError = ApiError(UNREACHABLE)
        self._health_checked = -HEALTH_SECONDS - 1
        self._health_lock = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        token: str | None = None,
        session: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> Any:
        """Send a request and return the JSON of its answer.

        Parameters
        ----------
        token
            An administrator's token, for the routes that require one.
        session
            The session that predictions belong to.
        idempotency_key
            With the same key and body a repeated request is counted once.

        Raises
        ------
        ApiError
            If the answer is not a success, or if there is none.
        """
        headers = {"X-Session-Id": session, "Idempotency-Key": idempotency_key}
        return self._send(
            method, path, json=body, headers=headers, token=token, timeout=timeout, params=params
        ).json()

    def text(self, path: str) -> str:
        """Return an answer that is not JSON; raises `ApiError` as `call` does."""
        return self._send("GET", path).text

    def health(self) -> dict[str, Any] | ApiError:
        """Return the answer of ``GET /health``, or the error in place of one."""
        with self._health_lock:
            if time.monotonic() - self._health_checked > HEALTH_SECONDS:
                try:
                    self._health = self.call("GET", "/health", timeout=3.0)
                except ApiError as error:
                    self._health = error
                self._health_checked = time.monotonic()
            return self._health

    def _send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str | None] | None = None,
        token: str | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> httpx.Response:
        sent = {name: value for name, value in (headers or {}).items() if value is not None}
        sent["Accept"] = "application/json"
        if token or self._token:
            sent["Authorization"] = f"Bearer {token or self._token}"
        limit = httpx.USE_CLIENT_DEFAULT if timeout is None else timeout
        try:
            response = self._http.request(method, path, headers=sent, timeout=limit, **options)
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            raise ApiError(UNREACHABLE) from None
        except httpx.TimeoutException:
            raise ApiError(TIMEOUT) from None
        except httpx.HTTPError:
            raise ApiError(UNREACHABLE) from None
        if not response.is_success:
            raise _error(response)
        return response


def _error(response: httpx.Response) -> ApiError:
    """Read an error envelope. A proxy before the API may answer with something else."""
    try:
        body = response.json()
    except ValueError:
        body = None
    envelope = body if isinstance(body, dict) else {}
    try:
        retry_after = float(response.headers.get("Retry-After", ""))
    except ValueError:
        retry_after = 0.0
    details = envelope.get("details")
    return ApiError(
        code=str(envelope.get("error", f"http_{response.status_code}")),
        status=response.status_code,
        message=str(envelope.get("message", "")),
        details=[d for d in details if isinstance(d, dict)] if isinstance(details, list) else (),
        request_id=response.headers.get("X-Request-Id", ""),
        retry_after=min(retry_after, MAX_RETRY_AFTER_SECONDS),
    )
