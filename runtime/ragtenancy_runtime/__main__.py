"""Starts a pod: `python -m ragtenancy_runtime [--tenants DIR]`."""

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvicorn
import uvloop

from ragtenancy_api import logs, wiring
from ragtenancy_runtime import app
from ragtenancy_runtime.adapters import kubernetes
from ragtenancy_runtime.settings import Settings, SettingsError, read_settings

_LONGEST_ANSWER_S: Final = 600


class Server(uvicorn.Server):
    """A server that leaves signals to the process, which has two of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _server(application: object, settings: Settings, port: int) -> Server:
    return Server(
        uvicorn.Config(
            application,  # type: ignore[arg-type]
            host=settings.host,
            port=port,
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=_LONGEST_ANSWER_S,
            timeout_keep_alive=75,
        )
    )


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then drain.

    First readiness fails while requests are still taken, until every Service has heard of it; then
    the listeners close and running answers finish.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    kube = None if settings.tenants is not None else await kubernetes.connect()
    async with contextlib.AsyncExitStack() as stack:
        if kube is not None:
            stack.push_async_callback(kube.close)
        runtime = await stack.enter_async_context(app.run(settings, kube))
        # What was imported lives as long as the process: no collection needs to look at it again.
        gc.collect()
        gc.freeze()
        api = _server(runtime.api, settings, settings.api_port)
        internal = _server(runtime.internal, settings, settings.internal_port)
        async with asyncio.TaskGroup() as servers:
            serving = servers.create_task(api.serve())
            servers.create_task(internal.serve())
            await stop.wait()
            runtime.readiness.draining = True
            await asyncio.sleep(settings.drain_seconds)
            api.should_exit = True
            await serving
            internal.should_exit = True


def main() -> None:
    """Read the settings and serve."""
    parser = argparse.ArgumentParser(prog="ragtenancy_runtime", description=__doc__)
    parser.add_argument(
        "--tenants",
        type=Path,
        metavar="DIR",
        help="read the RAGDeployment and RAGBindings from DIR/*.yaml instead of watching them",
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104
    parser.add_argument("--port", type=int, default=wiring.API_PORT, help="the tenants' port")
    parser.add_argument(
        "--internal-port", type=int, default=wiring.INTERNAL_PORT, help="the platform's port"
    )
    arguments = parser.parse_args()
    logs.configure()
    for noisy in ("httpx", "weaviate-client", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        settings = read_settings(tenants=arguments.tenants)
    except SettingsError as error:
        parser.error(str(error))
    settings = replace(
        settings,
        host=arguments.host,
        api_port=arguments.port,
        internal_port=arguments.internal_port,
    )
    uvloop.run(serve(settings))


if __name__ == "__main__":
    main()
