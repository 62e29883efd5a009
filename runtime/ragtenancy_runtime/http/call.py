"""One HTTP call: its body read within a limit, its client watched, its answer sent."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

from starlette.types import Message, Receive, Scope, Send

from ragtenancy_runtime.errors import PayloadTooLarge
from ragtenancy_runtime.http import sse
from ragtenancy_runtime.tenants import Identity, Tenant

HEARTBEAT_S: Final = 10.0
WRITE_S: Final = 60.0
"""How long a client may leave its side of a stream unread."""


class ClientGone(Exception):
    """The client closed the connection; nobody is left to answer."""


class Call:
    """One request and its response, on ASGI's three callables."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.request_id = uuid4().hex
        self.started_at = time.monotonic()
        self.identity: Identity | None = None
        self.status = 0
        self.log: dict[str, Any] = {}
        """What the request's log line says beside the usual."""
        self._receive = receive
        self._send = send
        self._streaming = False
        self._written_at = self.started_at
        self._gone = False
        self._complete = False

    @property
    def streaming(self) -> bool:
        """Whether a stream has begun and not ended."""
        return self._streaming

    @property
    def path_params(self) -> Mapping[str, str]:
        """The variable parts of the path."""
        params: Mapping[str, str] = self.scope["path_params"]
        return params

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header."""
        for key, value in self.scope["headers"]:
            if key == name:
                return bytes(value)
        return None

    @property
    def credential(self) -> str:
        """The key or token that the request carries; empty when it has none."""
        value = (self.header(b"authorization") or b"").decode("latin-1")
        scheme, _, key = value.partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""

    @property
    def tenant(self) -> Tenant:
        """Who is calling. The endpoint has made sure of it before any handler runs."""
        if self.identity is None:
            raise RuntimeError("a handler runs for a tenant")
        return self.identity.tenant

    async def body(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            PayloadTooLarge: It passes the limit; the rest is not read.
            ClientGone: The client broke off.
        """
        too_large = PayloadTooLarge(f"The body is larger than {limit} bytes.")
        length = self.header(b"content-length")
        if length is not None and length.isdigit() and int(length) > limit:
            raise too_large
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise too_large
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Cancel the block when the client goes away; while it streams, send heartbeats.

        Raises:
            ClientGone: The client went away.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call runs in a task")
        watcher = asyncio.create_task(self._watch(task))
        try:
            yield
        except asyncio.CancelledError:
            if self._gone and task.uncancel() == 0:
                raise ClientGone from None
            raise
        finally:
            watcher.cancel()

    async def _watch(self, task: "asyncio.Task[Any]") -> None:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    message = await self._receive()
            except TimeoutError:
                if self._streaming and time.monotonic() - self._written_at >= HEARTBEAT_S:
                    await self.write(sse.HEARTBEAT)
                continue
            if message["type"] == "http.disconnect":
                if self._complete:  # the server also says so after the answer's end
                    return
                self._gone = True
                task.cancel()
                return

    async def respond(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a whole JSON answer."""
        extra = {"content-length": str(len(body)), **(headers or {})}
        await self._start(status, "application/json", extra)
        self._complete = True
        await self._send({"type": "http.response.body", "body": body})

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        """Send the head of a stream of server-sent events."""
        await self._start(200, "text/event-stream; charset=utf-8", {**sse.HEADERS, **headers})
        self._streaming = True

    async def write(self, data: bytes) -> None:
        """Send a part of the stream; waits while the client does not read.

        Raises:
            ClientGone: It has not read for a long time.
        """
        self._written_at = time.monotonic()
        try:
            async with asyncio.timeout(WRITE_S):
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError:
            raise ClientGone from None

    async def end_stream(self, data: bytes) -> None:
        """Send the last part of the stream."""
        self._streaming = False
        self._complete = True
        await self._send({"type": "http.response.body", "body": data})

    async def _start(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        self.status = status
        raw: Iterable[tuple[bytes, bytes]] = [
            (b"content-type", content_type.encode()),
            (b"x-request-id", self.request_id.encode()),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ]
        message: Message = {
            "type": "http.response.start", "status": status, "headers": list(raw),
        }  # fmt: skip
        await self._send(message)
