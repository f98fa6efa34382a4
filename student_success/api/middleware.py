"""The ASGI middleware in front of BentoML: routing, access control, limits, validation, errors.

It lets through only the routes of the table, gives each request an id, checks the token, reads and
validates the body, and turns every error into the one envelope. Handlers get a valid model.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from opentelemetry.trace import Tracer
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from student_success.api.access_log import AccessLog
from student_success.api.auth import AccessControl, Role
from student_success.api.endpoints import STATIC_FILES, Endpoint
from student_success.api.request import (
    RequestContext,
    check_single_headers,
    current,
    parse_query,
    request_id,
)
from student_success.api.request_body import BodyReader, ClientDisconnectedError, replay
from student_success.api.responses import ResponseSender, log_server_error, unexpected_error
from student_success.api.tracing import NOT_TRACED, end_request, request_span, sent_trace_id
from student_success.core import metrics
from student_success.core.configuration.settings import Settings
from student_success.core.errors import (
    HeadersTooLargeError,
    MalformedRequestError,
    MethodNotAllowedError,
    MisdirectedRequestError,
    NotFoundError,
    StudentSuccessError,
)

Route = tuple[str, str]
"""Method and path."""
Handler = Callable[[RequestContext], Awaitable[bytes | Response]]
"""Answers a request; bytes are a JSON body with status 200."""

MAX_HEADERS = 128
MAX_KNOWN_HOSTS = 1000
"""Hosts that are checked only once; the names are sent by clients."""
CLIENT_CLOSED_REQUEST = 499
"""Status that web servers log for a client that disconnected."""
_METHODS = {"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"}
_PREDICTION_PATHS = {"/predict", "/predict_batch"}
_STATIC_FILE = Endpoint("GET", STATIC_FILES, "A file of the documentation page")


class ApiMiddleware:
    """The middleware; BentoML makes one in each worker.

    Parameters
    ----------
    app
        BentoML's application.
    endpoints
        The table of routes.
    closing
        Whether the server is shutting down: each response then closes its connection.
    handlers
        Routes that are answered here. This skips BentoML's wrapper; the response is identical.
    tracer
        Records a span for each request; None if traces are not sent.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        endpoints: Iterable[Endpoint],
        closing: Callable[[], bool],
        handlers: Mapping[Route, Handler],
        tracer: Tracer | None = None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._allowed_hosts: set[bytes | None] = set()
        self._closing = closing
        self._handlers = handlers
        self._tracer = tracer
        self._endpoints = {(endpoint.method, endpoint.path): endpoint for endpoint in endpoints}
        self._paths = {path for _, path in self._endpoints}
        self._access = AccessControl(admin_token=settings.admin_token, api_token=settings.api_token)
        self._bodies = BodyReader(settings)
        self._access_log = AccessLog(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            self._access_log.close()
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request = RequestContext(request_id(headers.get(b"x-request-id")), headers)
        sender = ResponseSender(request, send, self._closing)
        token = current.set(request)
        method, path = scope["method"], self._settings.strip_root(scope["path"])
        scope = {**scope, "path": path} if path != scope["path"] else scope
        known = method if method in _METHODS else "(other)", self._loggable(path)
        try:
            if self._tracer is None or path in NOT_TRACED:
                request.trace_id = sent_trace_id(headers)
                await self._handle(request, scope, receive, sender)
            else:
                with request_span(self._tracer, *known, request) as span:
                    await self._handle(request, scope, receive, sender)
                    end_request(span, sender.status, request.model_version)
        finally:
            current.reset(token)
            if request.buffered_bytes:
                self._bodies.release(request)
            self._access_log.write(
                method=known[0],
                path=known[1],
                status=sender.status,
                seconds=time.perf_counter() - started,
                request_id=request.request_id,
                model_version=request.model_version,
                trace_id=request.trace_id,
            )
            if sender.status >= 400 and path in _PREDICTION_PATHS:
                metrics.prediction_errors_total.labels(str(sender.status)).inc()

    async def _handle(
        self, request: RequestContext, scope: Scope, receive: Receive, sender: ResponseSender
    ) -> None:
        """Check a request and answer it, with the envelope if anything fails."""
        method, path = scope["method"], scope["path"]
        route = ("GET" if method == "HEAD" else method, path)
        try:
            await self._check(self._find_endpoint(route), request, scope, receive)
            handler = self._handlers.get(route)
            if handler is None:
                await self._app(scope, replay(request.body, receive), sender.forward)
            else:
                response = await handler(request)
                if isinstance(response, bytes):
                    await sender.json(200, response)
                else:
                    await response(scope, receive, sender.forward)
        except StudentSuccessError as error:
            log_server_error(error)
            await sender.error(error)
        except ClientDisconnectedError:
            sender.status = CLIENT_CLOSED_REQUEST
        except Exception as error:
            await sender.error(unexpected_error(error))

    def _loggable(self, path: str) -> str:
        """Return a known route or a placeholder: clients must not write into the log."""
        if path in self._paths:
            return path
        return STATIC_FILES if path.startswith(STATIC_FILES) else "(unknown)"

    def _find_endpoint(self, route: Route) -> Endpoint:
        endpoint = self._endpoints.get(route)
        if endpoint is not None:
            return endpoint
        method, path = route
        if method == "GET" and path.startswith(STATIC_FILES):
            return _STATIC_FILE
        if path in self._paths:
            allowed = [method for method, known in self._endpoints if known == path]
            raise MethodNotAllowedError(
                f"Use {' or '.join(allowed)} here.",
                allowed=[*allowed, *(["HEAD"] if "GET" in allowed else [])],
            )
        raise NotFoundError("There is no such route.")

    def _check_host(self, host: bytes | None, scope: Scope) -> None:
        if host is None:
            if scope.get("http_version") == "1.1":
                raise MalformedRequestError("Send the header Host, as HTTP/1.1 requires.")
            return
        settings = self._settings
        if not settings.allows_host(host.decode("latin-1"), address=settings.bind_address):
            raise MisdirectedRequestError("This host is not served; ALLOWED_HOSTS can name it.")
        if len(self._allowed_hosts) < MAX_KNOWN_HOSTS:
            self._allowed_hosts.add(host)

    async def _check(
        self, endpoint: Endpoint, request: RequestContext, scope: Scope, receive: Receive
    ) -> None:
        """Check everything about a request that can be checked before it is handled."""
        if len(scope["headers"]) > MAX_HEADERS:
            raise HeadersTooLargeError(f"A request may have at most {MAX_HEADERS} headers.")
        if len(scope["headers"]) > len(request.headers):
            check_single_headers(scope["headers"])
        host = request.headers.get(b"host")
        if host not in self._allowed_hosts:
            self._check_host(host, scope)
        authorization = request.headers.get(b"authorization")
        client = scope["client"][0] if scope.get("client") else ""
        request.role = self._access.authorise(
            authorization,
            needed=endpoint.role,
            client=client,
            token_required=endpoint.token_required,
        )
        if scope["query_string"]:
            request.query = parse_query(scope["query_string"])
        await self._bodies.read(endpoint, request, receive)
        request.check_sessions()
        if endpoint.session_or_admin and not request.names_session:
            self._access.authorise(authorization, needed=Role.ADMIN, client=client)
