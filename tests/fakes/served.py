"""A fake server over real HTTP, in a thread of the test's process."""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web


@dataclass
class Served:
    """Serves its routes on loopback, from `start` to `stop`, as often as a test likes."""

    port: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _runner: web.AppRunner | None = None
    _thread: threading.Thread | None = None

    def routes(self) -> Iterable[web.RouteDef]:
        """What it serves."""
        return ()

    def start(self) -> Self:
        """Serve in a thread; on the port it had, when it is started again."""
        started = threading.Event()

        async def serve() -> None:
            app = web.Application()
            app.router.add_routes(self.routes())
            self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
            await self._runner.setup()
            site = web.TCPSite(self._runner, "127.0.0.1", self.port)
            await site.start()
            self.port = self._runner.addresses[0][1]
            started.set()

        def run() -> None:
            self._loop = asyncio.new_event_loop()
            self._loop.run_until_complete(serve())
            self._loop.run_forever()
            self._loop.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        if not started.wait(10):
            raise RuntimeError("the fake did not start")
        return self

    def stop(self) -> None:
        """Stop serving; connections break."""
        runner, thread = self._runner, self._thread
        if runner is None or thread is None:
            raise RuntimeError("not started")
        asyncio.run_coroutine_threadsafe(runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        thread.join(10)
