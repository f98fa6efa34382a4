"""The edge: everything between a socket and a method of the application.

One ASGI middleware stands in front of BentoML's own routes and ours. It knows every route (`RULES`,
nothing else is let through), gives each request an id, checks the token, bounds and reads the body,
validates it, and turns every error into the one envelope. What reaches a method is a valid model.
"""

from __future__ import annotations

import json
import logging
import re
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from student_success.api.auth import Gatekeeper, Role
from student_success.api.validation import parse
from student_success.core import metrics
from student_success.core.errors import (
    BodyTooLargeError,
    HeadersTooLargeError,
    InvalidInputError,
    MethodNotAllowedError,
    NotFoundError,
    StudentSuccessError,
    TooManyRequestsError,
    UnsupportedMediaTypeError,
)
from student_success.core.identifiers import random_hex
from student_success.core.logging import AccessLog
from student_success.core.memory import give_back_soon
from student_success.core.settings import Settings
from student_success.domain.idempotency import Asked

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
P = ParamSpec("P")
R = TypeVar("R")

SESSION_PATTERN = re.compile(r"[\x21-\x7e]{1,128}")
REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}")
KEY_PATTERN = re.compile(r"[\x20-\x7e]{1,255}")
JSON_TYPE = re.compile(rb"application/json\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
        b"form-action 'none'",
    ),
)
MAX_HEADERS = 128
HELD_BODIES = 8
"""Bodies of the largest size that a worker holds at once, or as many bytes of smaller ones."""
_MUCH_BYTES = 4 << 20
"""A longer body was worth giving its memory back to the system."""
_LAST_HEADERS = (*SECURITY_HEADERS, (b"connection", b"close"))
"""Where no other request is wanted on the connection."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a route asks of a request.

    Attributes
    ----------
    role
        The least a caller must have shown to be.
    body
        Model of the JSON body; None where there is none.
    optional_body
        Whether an empty body stands for the model's defaults.
    batch
        Whether the larger body limit holds.
    one_session
        Whether the route shows one session to its caller, and every session only to an
        administrator.
    token
        Whether a token is asked for even while predictions are open to everyone.
    """

    role: Role = Role.ANYONE
    body: type[BaseModel] | None = None
    optional_body: bool = False
    batch: bool = False
    one_session: bool = False
    token: bool = False


@dataclass(slots=True)
class Call:
    """One request as the methods see it."""

    request_id: str
    role: Role = Role.ANYONE
    query: dict[str, str] = field(default_factory=dict)
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    held: int = 0
    """Bytes of the body that count against what may be held at once."""
    model: BaseModel | None = None
    in_envelope: bool = False
    fault: StudentSuccessError | None = None
    """Why BentoML answers 503, where a hook of ours said so."""
    model_version: str | None = None

    @property
    def asked_session(self) -> str | None:
        """The session the caller named, by header or query.

        Raises
        ------
        InvalidInputError
            If it is not 1 to 128 printable ASCII characters without blanks, at either place.
        """
        header = self.headers.get(b"x-session-id")
        named = None if header is None else header.decode("latin-1")
        asked = self.query.get("session_id")
        for name in (named, asked):
            if name is not None and not SESSION_PATTERN.fullmatch(name):
                raise _invalid_field("session_id", "Must be 1 to 128 printable ASCII characters")
        return asked if named is None else named

    @property
    def session_id(self) -> str:
        """The session the caller named, or a new one."""
        return self.asked_session or random_hex()

    @property
    def idempotency(self) -> Asked | None:
        """What was asked under a key, where the caller sent an ``Idempotency-Key``."""
        header = self.headers.get(b"idempotency-key")
        if header is None:
            return None
        key = header.decode("latin-1")
        if not KEY_PATTERN.fullmatch(key):
            raise _invalid_field("Idempotency-Key", "Must be 1 to 255 printable ASCII characters")
        return Asked(key, self.body, self.asked_session or "", self.actor)

    @property
    def actor(self) -> str:
        """Who to name in the record of deployments: the role, as long as tokens have no names."""
        return self.role.name.lower()


_call: ContextVar[Call] = ContextVar("call")


def current_call() -> Call:
    """Return the request being answered."""
    return _call.get()


def _invalid_field(name: str, message: str) -> InvalidInputError:
    return InvalidInputError(
        "The request does not match the contract.",
        details=[{"loc": [name], "msg": message, "type": "value_error"}],
    )


def envelope(error: StudentSuccessError, request_id: str) -> bytes:
    """Write an error as the contract's one envelope."""
    return json.dumps(
        {
            "error": error.code,
            "message": error.message,
            "request_id": request_id,
            "details": error.details,
        },
        default=str,
    ).encode()


def answering(
    method: Callable[P, Awaitable[R]],
) -> Callable[P, Awaitable[R | Response]]:
    """Let a route's method raise: a known error becomes the envelope, anything else a 500."""

    @wraps(method)
    async def answered(*args: P.args, **kwargs: P.kwargs) -> R | Response:
        try:
            return await method(*args, **kwargs)
        except StudentSuccessError as known:
            error = known
            log_fault(error)
        except Exception:
            error = crashed()
        call = current_call()
        call.in_envelope = True
        return Response(
            envelope(error, call.request_id),
            status_code=error.status,
            headers=error.headers,
            media_type="application/json",
        )

    return answered


def log_fault(error: StudentSuccessError) -> None:
    """Log what is our own fault; the caller's is in the access log."""
    if error.status >= 500:
        logger.error(
            "request_failed",
            extra={"code": error.code, "request_id": current_call().request_id},
            exc_info=error,
        )


def crashed() -> StudentSuccessError:
    """Log the exception being handled under the request's id; return what the caller is told."""
    logger.exception("request_crashed", extra={"request_id": current_call().request_id})
    return StudentSuccessError("Something went wrong on our side.")


def json_answer(content: Any, status: int = 200) -> JSONResponse:
    """Answer with JSON."""
    return JSONResponse(content, status_code=status)


class Edge:
    """The middleware; BentoML makes one for each worker.

    Parameters
    ----------
    app
        What stands behind it.
    settings, rules
        Limits, tokens and routes.
    closing
        Whether the server is shutting down: each response then closes its connection.
    short_cuts
        Routes answered here, without BentoML's wrapper: the same method, the same bytes.
    """

    def __init__(
        self,
        app: App,
        *,
        settings: Settings,
        closing: Callable[[], bool],
        rules: Mapping[tuple[str, str], Rule],
        prefixes: Sequence[str] = (),
        short_cuts: Mapping[tuple[str, str], Callable[[Call], Awaitable[bytes]]] | None = None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._closing = closing
        self._rules = rules
        self._prefixes = tuple(prefixes)
        self._short_cuts = short_cuts or {}
        self._paths: dict[str, list[str]] = {}
        for method, path in rules:
            self._paths.setdefault(path, []).append(method)
        self._gatekeeper = Gatekeeper(
            admin_token=settings.admin_token, api_token=settings.api_token
        )
        self._log = AccessLog(settings)
        self._held = 0
        self._most_held = HELD_BODIES * max(settings.max_body_bytes, settings.max_batch_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
                self._log.close()
            else:
                await send({"type": "websocket.close", "code": 1000})
            return
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        call = Call(_request_id(headers.get(b"x-request-id")), headers=headers)
        answer = _Answer(call, send, self._closing)
        token = _call.set(call)
        route = scope["method"], scope["path"]
        try:
            rule = self._rule(*route)
            await self._admit(rule, call, scope, receive)
            short_cut = self._short_cuts.get(route)
            if short_cut is not None:
                await answer.json(200, await short_cut(call))
            else:
                await self._app(scope, _replay(call.body, receive), answer.pass_on)
        except StudentSuccessError as error:
            log_fault(error)
            await answer.error(error)
        except _ClientGoneError:
            answer.status = 499  # what web servers log for a client that hung up
        except Exception:
            await answer.error(crashed())
        finally:
            _call.reset(token)
            if call.held:
                self._let_go(call)
            self._log.write(
                method=route[0] if route[0] in _METHODS else "(other)",
                path=self._known(route[1]),
                status=answer.status,
                seconds=time.perf_counter() - started,
                request_id=call.request_id,
                model_version=call.model_version,
            )
            if answer.status >= 400 and route[1] in _PREDICTING:
                metrics.prediction_errors_total.labels(str(answer.status)).inc()

    def _known(self, path: str) -> str:
        """Return a route of ours or what stands for it; nothing that was sent gets into a log."""
        if path in self._paths:
            return path
        return next((known for known in self._prefixes if path.startswith(known)), "(unknown)")

    def _rule(self, method: str, path: str) -> Rule:
        if method == "HEAD":
            method = "GET"
        rule = self._rules.get((method, path))
        if rule is not None:
            return rule
        if method == "GET" and path.startswith(self._prefixes) and self._prefixes:
            return Rule()
        if path in self._paths:
            allowed = self._paths[path]
            raise MethodNotAllowedError(
                f"Use {' or '.join(allowed)} here.",
                allowed=[*allowed, *(["HEAD"] if "GET" in allowed else [])],
            )
        raise NotFoundError("There is no such route.")

    async def _admit(self, rule: Rule, call: Call, scope: Scope, receive: Receive) -> None:
        """Check everything about a request that can be checked before its method runs."""
        if len(scope["headers"]) > MAX_HEADERS:
            raise HeadersTooLargeError(f"A request may have at most {MAX_HEADERS} headers.")
        authorization = call.headers.get(b"authorization")
        client = scope["client"][0] if scope.get("client") else ""
        call.role = self._gatekeeper.admit(
            authorization, needed=rule.role, client=client, always=rule.token
        )
        if scope["query_string"]:
            call.query = _query(scope["query_string"])
        await self._take_body(rule, call, receive)
        if rule.one_session and not _names_session(call):
            self._gatekeeper.admit(authorization, needed=Role.ADMIN, client=client)

    async def _take_body(self, rule: Rule, call: Call, receive: Receive) -> None:
        limit = self._settings.max_batch_body_bytes if rule.batch else self._settings.max_body_bytes
        length = call.headers.get(b"content-length")
        if length is not None and (not length.isdigit() or int(length) > limit):
            raise BodyTooLargeError(f"The body may have at most {limit} bytes.")
        if rule.body is None:
            return
        if call.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMediaTypeError("Send the body as it is, without a content encoding.")
        call.body = await self._read(call, receive, limit)
        if not call.body and rule.optional_body:
            call.model = rule.body()
            return
        if call.body and not JSON_TYPE.fullmatch(call.headers.get(b"content-type", b"")):
            raise UnsupportedMediaTypeError("Send the body as application/json.")
        call.model = parse(rule.body, call.body)

    async def _read(self, call: Call, receive: Receive, limit: int) -> bytes:
        """Read a body of at most `limit` bytes; refuse a longer one without reading it whole."""
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGoneError
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise BodyTooLargeError(f"The body may have at most {limit} bytes.")
            more = message.get("more_body", False)
            if not chunks and not more:
                return chunk
            call.held += len(chunk)
            self._held += len(chunk)
            if self._held > self._most_held:
                raise TooManyRequestsError("Too many large bodies at once.", retry_after=1)
            chunks.append(chunk)
            if not more:
                return b"".join(chunks)

    def _let_go(self, call: Call) -> None:
        self._held -= call.held
        if call.held >= _MUCH_BYTES:
            give_back_soon()


class _ClientGoneError(Exception):
    """The client hung up before its request was whole: nobody to answer."""


class _Answer:
    """Send one response, whoever makes it, with the headers that every response has."""

    def __init__(self, call: Call, send: Send, closing: Callable[[], bool]) -> None:
        self._call = call
        self._send = send
        self._closing = closing
        self._swallow = False
        self.status = 0

    def _always(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-request-id", self._call.request_id.encode()),
            *(_LAST_HEADERS if self._closing() else SECURITY_HEADERS),
        ]

    async def json(
        self, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        self.status = status
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                    *self._always(),
                    *headers,
                ],
            }
        )
        await self._send({"type": "http.response.body", "body": body})

    async def error(self, error: StudentSuccessError) -> None:
        """Send the envelope, unless a response has begun: then only the connection can end."""
        if self.status:
            raise error
        extra = [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
        await self.json(error.status, envelope(error, self._call.request_id), extra)

    async def pass_on(self, message: Message) -> None:
        """Send what BentoML or a route of ours answers; errors not in the envelope get one."""
        if message["type"] != "http.response.start":
            if not self._swallow:
                await self._send(message)
            return
        status = message["status"]
        if status >= 400 and not self._call.in_envelope:
            self._swallow = True
            await self.error(self._call.fault or _foreign_error(status))
            return
        self.status = status
        # BentoML's "server" tells only who is nosy what to look for.
        ours = {b"server", *(name for name, _ in SECURITY_HEADERS)}
        await self._send(
            {
                **message,
                "headers": [
                    *(h for h in message["headers"] if h[0].lower() not in ours),
                    *self._always(),
                ],
            }
        )


_METHODS = {"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"}
_PREDICTING = {"/predict", "/predict_batch"}


def _foreign_error(status: int) -> StudentSuccessError:
    if status == 503:
        from student_success.core.errors import ModelUnavailableError

        return ModelUnavailableError("The service is not ready.")
    if status == 404:
        return NotFoundError("There is no such route.")
    if status < 500:
        # A range of a static file that cannot be read, for one.
        return InvalidInputError("The request does not match the contract.")
    return StudentSuccessError("Something went wrong on our side.")


def _request_id(sent: bytes | None) -> str:
    if sent is not None and REQUEST_ID_PATTERN.fullmatch(named := sent.decode("latin-1")):
        return named
    return random_hex()


def _names_session(call: Call) -> bool:
    return call.asked_session is not None or getattr(call.model, "session_id", None) is not None


def _query(raw: bytes) -> dict[str, str]:
    try:
        pairs = urllib.parse.parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20
        )
    except ValueError:
        raise _invalid_field("query", "Not a valid query string") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _invalid_field("query", "A parameter stands twice")
    return found


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand a body that was read already to whoever reads it next."""
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed
