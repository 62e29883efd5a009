"""The internal HTTP port: health, metrics and the debug pages."""

import json
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ragtenancy_operator.debug import PATHS, Debug
from ragtenancy_operator.metrics import Metrics
from ragtenancy_operator.store import Key


async def serve(
    port: int, metrics: Metrics, debug: Debug, healthy: Callable[[], bool]
) -> web.AppRunner:
    """Serve until the caller cleans the runner up."""

    async def health(_: web.Request) -> web.Response:
        fine = healthy()
        return web.Response(text="ok" if fine else "stopping", status=200 if fine else 503)

    async def scrape(_: web.Request) -> web.Response:
        body = generate_latest(metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def page(request: web.Request) -> web.Response:
        kind = PATHS[request.match_info["kind"]]
        key = Key(kind, request.match_info["namespace"], request.match_info["name"])
        found = debug.page(key)
        if found is None:
            return web.json_response({"error": f"{key} is not known here"}, status=404)
        return web.Response(
            text=json.dumps(found, indent=1) + "\n", content_type="application/json"
        )

    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", health),
            web.get("/readyz", health),
            web.get("/metrics", scrape),
            web.get(f"/debug/{{kind:{'|'.join(PATHS)}}}/{{namespace}}/{{name}}", page),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
