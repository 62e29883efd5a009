"""Domain errors as OpenAI errors: the one place that knows both."""

import json
import math
from http import HTTPStatus

from starlette.responses import Response

from ragtenancy_runtime.errors import (
    Conflict,
    Forbidden,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    RateLimits,
    RequestError,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
    Window,
)

_STATUS: dict[type[RequestError], tuple[HTTPStatus, str]] = {
    Unauthenticated: (HTTPStatus.UNAUTHORIZED, "invalid_request_error"),
    Forbidden: (HTTPStatus.FORBIDDEN, "invalid_request_error"),
    NotFound: (HTTPStatus.NOT_FOUND, "invalid_request_error"),
    Conflict: (HTTPStatus.CONFLICT, "invalid_request_error"),
    PayloadTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "invalid_request_error"),
    RateLimited: (HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error"),
    Unavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "server_error"),
    UpstreamFailed: (HTTPStatus.SERVICE_UNAVAILABLE, "server_error"),
}
_DEFAULT = (HTTPStatus.BAD_REQUEST, "invalid_request_error")


def error_object(message: str, kind: str, param: str | None, code: str | None) -> bytes:
    """An OpenAI error object."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return json.dumps({"error": error}).encode()


def body_of(error: RequestError) -> bytes:
    """The error object of a domain error."""
    _, kind = _STATUS.get(type(error), _DEFAULT)
    return error_object(error.message, kind, error.param, error.code)


def duration(seconds: float) -> str:
    """Seconds as OpenAI's rate limit headers write them: `12ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s"


def _window_headers(kind: str, window: Window | None) -> dict[str, str]:
    if window is None:
        return {}
    return {
        f"x-ratelimit-limit-{kind}": str(window.limit),
        f"x-ratelimit-remaining-{kind}": str(window.remaining),
        f"x-ratelimit-reset-{kind}": duration(window.reset),
    }


def limit_headers(limits: RateLimits) -> dict[str, str]:
    """The `x-ratelimit-*` headers of an answer."""
    return {
        **_window_headers("requests", limits.requests),
        **_window_headers("tokens", limits.tokens),
    }


def headers_of(error: RequestError) -> dict[str, str]:
    """The headers that tell a client when to come back."""
    headers: dict[str, str] = {}
    if isinstance(error, RateLimited):
        headers = limit_headers(error.limits)
    if isinstance(error, RateLimited | Unavailable):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return headers


def response_of(error: RequestError) -> Response:
    """The response that tells a client of a domain error."""
    status, _ = _STATUS.get(type(error), _DEFAULT)
    return Response(
        body_of(error), status, headers=headers_of(error), media_type="application/json"
    )


def internal_error() -> Response:
    """The response to what should not have happened. The log holds the rest."""
    body = error_object("The server had an error.", "server_error", None, "internal_error")
    return Response(body, HTTPStatus.INTERNAL_SERVER_ERROR, media_type="application/json")
