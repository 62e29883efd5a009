"""A TCP proxy on loopback: TLS in front of a server that has none, or one address for several."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_PIECE = 65_536


def server_tls(certificate: Path, key: Path, *protocols: str) -> ssl.SSLContext:
    """The TLS of a server that offers these protocols (ALPN)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


class _Proxy:
    def __init__(self, backends: Sequence[int]) -> None:
        self._backends = backends
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join a client with the first backend that takes a connection, as a Service would."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        for port in self._backends:
            try:
                up, down = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            # a handler that ends cancelled is an error to asyncio's streams
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(_pump(reader, down), _pump(up, writer))
            return
        writer.close()

    async def stop(self) -> None:
        """Break every connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def proxy(*backends: int, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve in a thread; gives the port."""
    loop = asyncio.new_event_loop()
    ports: list[int] = []
    started = threading.Event()
    served = _Proxy(backends)

    async def start() -> None:
        server = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if not started.wait(10):
        raise RuntimeError("the proxy did not start")
    try:
        yield ports[0]
    finally:
        asyncio.run_coroutine_threadsafe(served.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
