"""One writer at a time per document, and the epoch that tells caches of its change.

An epoch is a random name, so none is ever used twice. admit.lua reads it before anything is
retrieved; a cached answer is served only under the epoch it was made in. A writer marks its claim
just before it switches a document and announces the change after it: in between, and after its
death in between, no request of the tenant reads or fills the cache (claim.lua, admit.lua).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from ragtenancy_api.wiring import tenant_key, tombstone_key
from ragtenancy_runtime.errors import Conflict, Unauthenticated
from ragtenancy_runtime.ports import Scripts

CLAIM_MS: Final = 60_000


@dataclass(slots=True)
class Claim:
    """A writer's hold on one document."""

    state: Scripts
    uid: str
    document_id: str
    writer: str
    announced: bool = True

    async def extend(self, *, switching: bool = False) -> None:
        """Hold the document for another while.

        Raises:
            Conflict: The claim had run out, and another writer has it now.
            Unauthenticated: The tenant is being removed.
        """
        keys = [tenant_key(self.uid, "writing"), tombstone_key(self.uid)]
        args: list[str | bytes | int] = [self.document_id, self.writer, CLAIM_MS, int(switching)]
        reply = await self.state.run("claim", keys, args)
        if reply == b"gone":
            raise Unauthenticated
        if reply == b"busy":
            raise Conflict("Another request is changing this document.", code="document_busy")
        if switching:
            self.announced = False

    async def announce(self) -> None:
        """Start a new epoch: the switched document is visible to every reader."""
        keys = [
            tenant_key(self.uid, "epoch"),
            tenant_key(self.uid, "writing"),
            tombstone_key(self.uid),
        ]
        await self.state.run("announce", keys, [uuid4().hex, self.document_id, self.writer])
        self.announced = True

    async def release(self) -> None:
        """Let the next writer in."""
        keys = [tenant_key(self.uid, "writing")]
        await self.state.run("release", keys, [self.document_id, self.writer])


@asynccontextmanager
async def claimed(state: Scripts, uid: str, document_id: str) -> AsyncIterator[Claim]:
    """Hold a document while it is written.

    A writer that fails after it began to switch leaves its claim to run out: nobody can tell
    whether the switch took place, so the cache stays out of use until a new epoch has begun.

    Raises:
        Conflict: Another writer has it.
        Unavailable: Redis is away.
    """
    claim = Claim(state, uid, document_id, uuid4().hex)
    await claim.extend()
    try:
        yield claim
    finally:
        if claim.announced:
            await claim.release()
