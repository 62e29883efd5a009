"""What can go wrong with a request, in the domain's own words.

The web layer translates these into OpenAI errors, in one place (`http/errors.py`). Messages are
for the client: they never hold another tenant's data, a key, or an address inside the cluster.
"""

from dataclasses import dataclass
from typing import Literal

Dimension = Literal["requests", "tokens", "concurrency"]


class RequestError(Exception):
    """A request that is not answered; the message tells the client why."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class InvalidRequest(RequestError):
    """The request itself is wrong; sending it again will not help."""


class Unauthenticated(RequestError):
    """No tenant has this key. Every reason gives the same answer."""

    def __init__(self) -> None:
        super().__init__("Incorrect API key provided.", code="invalid_api_key")


class Forbidden(RequestError):
    """The tenant is known, and may not do this."""


class NotFound(RequestError):
    """What the request names is not there, for this tenant."""


class Conflict(RequestError):
    """Somebody else is changing the same thing right now."""


class PayloadTooLarge(RequestError):
    """The body or one of its parts passes a size limit."""


@dataclass(frozen=True, slots=True)
class Window:
    """Where one rate limit stands: of `limit`, `remaining`; full again after `reset` seconds."""

    limit: int
    remaining: int
    reset: float


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Where a tenant's rate limits stand; None where it has none."""

    requests: Window | None = None
    tokens: Window | None = None


class RateLimited(RequestError):
    """A quota denies the request now; `retry_after` is in seconds."""

    def __init__(
        self, dimension: Dimension, retry_after: float, limits: RateLimits, epoch: str = ""
    ) -> None:
        what = {
            "requests": "Request rate limit reached.",
            "tokens": "Token rate limit reached.",
            "concurrency": "Too many requests at the same time.",
        }[dimension]
        super().__init__(
            f"{what} Try again in {retry_after:.3g} seconds.", code="rate_limit_exceeded"
        )
        self.dimension = dimension
        self.retry_after = retry_after
        self.limits = limits
        self.epoch = epoch
        """Epoch of the tenant's corpus: a cached answer may still be served."""


class Unavailable(RequestError):
    """Something that the answer needs is away. `service` is the part that is."""

    def __init__(self, service: str, retry_after: float = 1.0) -> None:
        super().__init__(
            f"The {service} is not available right now. Try again later.",
            code="service_unavailable",
        )
        self.service = service
        self.retry_after = retry_after


class UpstreamFailed(RequestError):
    """The model's server broke off after the answer had begun."""

    def __init__(self, reason: str) -> None:
        super().__init__("The model broke off its answer.", code="upstream_failed")
        self.reason = reason
        """For the log, not for the client."""

    def __repr__(self) -> str:
        """As the log shows it."""
        return f"UpstreamFailed({self.reason!r})"
