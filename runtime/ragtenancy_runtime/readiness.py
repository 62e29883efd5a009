"""Whether this pod can answer: what it waits for when it starts, and whether it is leaving.

Each part must have been there once. After that its absence is a 503 on the requests that need it
and not unreadiness: taking every pod out of the Service would turn one part's outage into a
refused connection for requests that do not need that part. The cache is not waited for.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ragtenancy_runtime.errors import Unavailable
from ragtenancy_runtime.tokens import TokenizerMissing

_FIRST_WAIT_S = 0.1
_MAX_WAIT_S = 2.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Readiness:
    """What is still missing, and why."""

    missing: dict[str, str] = field(default_factory=dict)
    draining: bool = False

    @property
    def ready(self) -> bool:
        """Whether requests may be sent here."""
        return not self.missing and not self.draining

    async def wait_for(self, part: str, check: Callable[[], Awaitable[None]]) -> None:
        """Try a check until it passes once."""
        wait = _FIRST_WAIT_S
        while True:
            try:
                await check()
            except (Unavailable, TokenizerMissing) as error:
                reason = repr(error.__cause__ or error)
                if self.missing.get(part) != reason:
                    _log.warning("not ready: %s: %s", part, reason)
                    self.missing[part] = reason
                await asyncio.sleep(wait)
                wait = min(wait * 2, _MAX_WAIT_S)
            else:
                self.missing.pop(part, None)
                return
