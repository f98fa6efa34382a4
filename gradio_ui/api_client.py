"""The HTTP API as the interface sees it; nobody else here opens a connection."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

logger = logging.getLogger(__name__)

AWAY = "away"
SLOW = "slow"
OFFER_SECONDS = 15.0
"""How long the list of routes is believed."""
HEALTH_SECONDS = 2.0
"""How long one look at the API's health serves every visitor."""
MAX_WAIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ApiError(Exception):
    """The API said no, or said nothing.

    Attributes
    ----------
    code
        The envelope's stable code; ``"away"`` or ``"slow"`` where no answer came.
    message
        The API's English sentence; readers get the text of `code` where there is one.
    """

    code: str
    status: int = 0
    message: str = ""
    details: Sequence[Mapping[str, Any]] = ()
    request_id: str = ""
    retry_after: float = 0.0

    @property
    def passing(self) -> bool:
        """Whether the same request may well succeed later."""
        return self.status in (0, 429, 502, 503, 504)


@dataclass(slots=True)
class _Seen:
    value: Any = None
    at: float = -1e9
    lock: threading.Lock = field(default_factory=threading.Lock)


class Api:
    """Calls of the contract. One instance serves every visitor; it keeps nothing of theirs.

    Parameters
    ----------
    token
        The API token, sent where a call names no token of its own.
    timeout
        Seconds an answer may take, where the call does not say otherwise.
    """

    def __init__(self, base_url: str, *, token: str | None = None, timeout: float = 10.0) -> None:
        self._token = token
        # trust_env: pupils' data must not go through whatever proxy the environment names.
        self._http = httpx.Client(
            base_url=base_url, timeout=httpx.Timeout(timeout, connect=2.0), trust_env=False
        )
        self._offers = _Seen({})
        self._health = _Seen()

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
        key: str | None = None,
        timeout: float | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> Any:
        """Send a request and return the JSON of its answer.

        Parameters
        ----------
        token
            An administrator's token, for the routes that ask for one.
        key
            Idempotency key: sent again with the same body, nothing happens twice.

        Raises
        ------
        ApiError
            For every answer that is not a success, and for none.
        """
        response = self._send(
            method,
            path,
            json=body,
            headers=_headers(token or self._token, session, key),
            timeout=timeout,
            params=params,
        )
        if response.is_success:
            return response.json()
        raise _error(response)

    def text(self, path: str) -> str:
        """Return an answer that is not JSON; raises `ApiError` as `call` does."""
        response = self._send("GET", path, headers=_headers(self._token, None, None))
        if response.is_success:
            return response.text
        raise _error(response)

    def offers(self, method: str, path: str) -> bool:
        """Tell whether the API has a route, as its own description says."""
        seen = self._offers
        with seen.lock:
            if time.monotonic() - seen.at > OFFER_SECONDS:
                try:
                    seen.value = self.call("GET", "/openapi.json", timeout=3.0).get("paths", {})
                    seen.at = time.monotonic()
                except ApiError:
                    # What it offered before is the best guess while it is away.
                    logger.info("openapi_unavailable")
            return method.lower() in seen.value.get(path, {})

    def takes(self, method: str, path: str, parameter: str) -> bool:
        """Tell whether a route can be asked without its parameter `parameter`."""
        if not self.offers(method, path):
            return False
        listed = self._offers.value[path][method.lower()].get("parameters", ())
        return any(p.get("name") == parameter and not p.get("required") for p in listed)

    def health(self) -> dict[str, Any] | ApiError:
        """Return the answer of ``GET /health``, or why there is none."""
        seen = self._health
        with seen.lock:
            if time.monotonic() - seen.at > HEALTH_SECONDS:
                try:
                    seen.value = self.call("GET", "/health", timeout=3.0)
                except ApiError as error:
                    seen.value = error
                seen.at = time.monotonic()
            found: dict[str, Any] | ApiError = seen.value
            return found

    def _send(self, method: str, path: str, **values: Any) -> httpx.Response:
        if values.get("timeout") is None:
            values.pop("timeout", None)
        try:
            return self._http.request(method, path, **values)
        except httpx.TimeoutException as error:
            slow = not isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
            raise ApiError(SLOW if slow else AWAY) from None
        except httpx.HTTPError:
            raise ApiError(AWAY) from None


def _headers(token: str | None, session: str | None, key: str | None) -> dict[str, str]:
    headers = {"Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if session is not None:
        headers["X-Session-Id"] = session
    if key is not None:
        headers["Idempotency-Key"] = key
    return headers


def _error(response: httpx.Response) -> ApiError:
    try:
        body = response.json()
    except ValueError:
        body = None
    envelope = body if isinstance(body, dict) else {}
    try:
        wait = float(response.headers.get("Retry-After", ""))
    except ValueError:
        wait = 0.0
    details = envelope.get("details")
    return ApiError(
        code=str(envelope.get("error", f"http_{response.status_code}")),
        status=response.status_code,
        message=str(envelope.get("message", "")),
        details=[d for d in details if isinstance(d, dict)] if isinstance(details, list) else (),
        request_id=response.headers.get("X-Request-Id", ""),
        retry_after=min(wait, MAX_WAIT_SECONDS),
    )
