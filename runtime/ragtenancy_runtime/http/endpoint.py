"""Around every route: who calls is made sure of, errors become responses, and each is recorded."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from ragtenancy_api.logs import fields
from ragtenancy_api.settings import Role
from ragtenancy_runtime.access import Access, permit
from ragtenancy_runtime.errors import Forbidden, RateLimited, RequestError, Unavailable
from ragtenancy_runtime.http import sse
from ragtenancy_runtime.http.call import Call, ClientGone
from ragtenancy_runtime.http.errors import headers_of, internal_error, response_of
from ragtenancy_runtime.metrics import Metrics
from ragtenancy_runtime.ports import Span, Tracer
from ragtenancy_runtime.tracing import CACHE, REQUEST, TENANT
from ragtenancy_runtime.turn import Turn

CLIENT_CLOSED: Final = 499
"""nginx's code, in logs and metrics only: the client went away before its answer."""

_PARENT: Final = ("traceparent", "tracestate")

_requests_log = logging.getLogger("ragtenancy.request")
_log = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[None]]


class Endpoint:
    """A route's handler as an ASGI application, for those who have a role."""

    def __init__(
        self,
        route: str,
        role: Role,
        handler: Handler,
        *,
        access: Access,
        metrics: Metrics,
        tracer: Tracer,
    ) -> None:
        self._route = route
        self._role = role
        self._handler = handler
        self._access = access
        self._metrics = metrics
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        call = Call(scope, receive, send)
        self._metrics.in_flight.inc()
        parent = {name: call.header(name.encode()) or b"" for name in _PARENT}
        carrier = {name: value.decode("latin-1") for name, value in parent.items() if value}
        try:
            with self._tracer.request(self._route, carrier) as span:
                try:
                    await self._answer(call, span)
                finally:
                    self._trace(call, span)
        finally:
            self._metrics.in_flight.dec()
            self._record(call)

    @staticmethod
    def _trace(call: Call, span: Span) -> None:
        span.set({"http.response.status_code": call.status, REQUEST: call.request_id})
        if "cache" in call.log:
            span.set({CACHE: call.log["cache"]})
        failure = call.log.get("failure", call.log.get("error"))
        if failure is not None and (call.status >= 500 or "failure" in call.log):
            span.fail(str(failure))

    async def _answer(self, call: Call, span: Span) -> None:
        try:
            call.identity = await self._access.identify(call.credential)
            span.set({TENANT: call.identity.tenant.uid})
            permit(call.identity, self._role)
            await self._handler(call)
        except ClientGone:
            call.status = CLIENT_CLOSED
        except RequestError as error:
            call.log["error"] = error.code
            self._count(call, error)
            if call.status:
                _log.error("request %s failed after its answer had begun", call.request_id)
                return
            response = response_of(error)
            await call.respond(response.status_code, bytes(response.body), headers_of(error))
        except Exception:
            _log.exception("request %s failed", call.request_id)
            call.log["error"] = "internal_error"
            if call.streaming:
                await call.end_stream(sse.frames([bytes(internal_error().body)]))
            elif not call.status:
                await call.respond(500, bytes(internal_error().body))

    def _count(self, call: Call, error: RequestError) -> None:
        tenant = self._metrics.tenant(call.identity.tenant.uid if call.identity else None)
        if isinstance(error, RateLimited):
            self._metrics.denials.labels(tenant, error.dimension).inc()
        if isinstance(error, Forbidden):
            self._metrics.denials.labels(tenant, error.code).inc()
        if isinstance(error, Unavailable):
            self._metrics.unavailable.labels(error.service).inc()
            _log.warning("request %s: %s away: %r", call.request_id, error.service, error.__cause__)

    def _record(self, call: Call) -> None:
        seconds = time.monotonic() - call.started_at
        uid = call.identity.tenant.uid if call.identity else None
        tenant = self._metrics.tenant(uid)
        self._metrics.requests.labels(tenant, self._route, str(call.status)).inc()
        self._metrics.seconds.labels(self._route).observe(seconds)
        line: dict[str, Any] = {
            "request_id": call.request_id,
            "route": self._route,
            "status": call.status,
            "ms": round(seconds * 1000, 1),
            "tenant": uid,
            "key_id": call.identity.key_id if call.identity else None,
        }
        turn = call.log.pop("turn", None)
        if isinstance(turn, Turn):
            line |= self._of_turn(turn, tenant, call.started_at)
        _requests_log.info("request", extra=fields(**(line | call.log)))

    def _of_turn(self, turn: Turn, tenant: str, started_at: float) -> dict[str, Any]:
        usage = turn.usage
        for kind, amount in usage.ledger().items():
            if kind != "requests" and amount:
                self._metrics.tokens.labels(tenant, kind).inc(amount)
        self._metrics.cache.labels("exact", turn.cache).inc()
        line: dict[str, Any] = {
            "stream": turn.question.stream,
            "model": turn.answer.model if turn.answer else None,
            "prompt_tokens": usage.prompt,
            "cached_prompt_tokens": usage.cached,
            "completion_tokens": usage.completion,
            "embedding_tokens": usage.embedding,
        }
        if turn.first_token_at is not None:
            first = turn.first_token_at - started_at
            self._metrics.first_token.observe(first)
            line["first_token_ms"] = round(first * 1000, 1)
        return line
