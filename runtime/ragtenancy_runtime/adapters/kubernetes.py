"""Watches this pod's RAGDeployment and its RAGBindings, and feeds the directory.

Only the client's transport is used: its generated models would cost the pod tens of megabytes.
"""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import load_kube_config
from pydantic import ValidationError

from ragtenancy_api.binding import RAGBinding
from ragtenancy_api.deployment import RAGDeployment
from ragtenancy_api.meta import GROUP, VERSION
from ragtenancy_api.wiring import WatchProgress
from ragtenancy_runtime.tenants import Directory

_WATCH_S: Final = 290
"""How long the API server keeps one watch; it then ends, and the next one goes on from there."""
_MAX_BACKOFF_S: Final = 5.0
_IN_CLUSTER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

_log = logging.getLogger(__name__)


class Expired(Exception):
    """The API server no longer knows the resourceVersion: list again."""


async def connect(kubeconfig: str | None = None) -> ApiClient:
    """A client of the cluster that this pod runs in, or of a kubeconfig's current context."""
    configuration = Configuration()
    if kubeconfig is None and _IN_CLUSTER.exists():
        load_incluster_config(client_configuration=configuration)
    else:
        await load_kube_config(config_file=kubeconfig, client_configuration=configuration)
    return ApiClient(configuration)


@dataclass(slots=True)
class Watch:
    """One list and watch, for as long as the process runs.

    `progress` is the resourceVersion up to which everything was handed on, None before the first
    list.
    """

    api: ApiClient
    namespace: str
    plural: str
    field_selector: str
    replace: Callable[[list[dict[str, Any]]], None]
    apply: Callable[[dict[str, Any]], None]
    remove: Callable[[dict[str, Any]], None]
    progress: str | None = None
    synced: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """List, then watch; list again when the watch cannot go on."""
        wait = 0.1
        listed = False
        while True:
            try:
                if not listed:
                    await self._list()
                    listed = True
                if await self._watch():
                    wait = 0.1
                else:
                    await asyncio.sleep(wait)
            except Expired:
                listed = False
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                _log.warning("watch of %s broke off: %r", self.plural, error)
                await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - jitter
                wait = min(wait * 2, _MAX_BACKOFF_S)

    async def _list(self) -> None:
        # No resourceVersion: a consistent read, never older than what another pod has seen.
        async with await self._get({}, aiohttp.ClientTimeout(total=30)) as response:
            body = await response.json(content_type=None)
        self.replace(body["items"])
        self.progress = body["metadata"]["resourceVersion"]
        self.synced.set()

    async def _watch(self) -> bool:
        """Follow one watch to its end; whether it brought anything."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self.progress or "",
            "timeoutSeconds": str(_WATCH_S),
        }
        # A connection that died in silence is found by reading: bookmarks come once a minute.
        limits = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=150)
        lively = False
        async with await self._get(query, limits) as response:
            async for line in _lines(response):
                self._event(json.loads(line))
                lively = True
        return lively

    def _event(self, event: dict[str, Any]) -> None:
        body = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self.apply(body)
            case "DELETED":
                self.remove(body)
            case "BOOKMARK":
                pass
            case "ERROR" if body.get("code") in {410, 504}:
                raise Expired
            case _:
                raise ValueError(f"unexpected watch event: {event}")
        self.progress = body["metadata"]["resourceVersion"]

    async def _get(
        self, query: dict[str, str], limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        selector = {"fieldSelector": self.field_selector, **query}
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{self.plural}"
        headers: dict[str, str] = {"accept": "application/json"}
        await self.api.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
        response = await self.api.rest_client.request(
            "GET",
            f"{self.api.configuration.host}{path}?{urlencode(selector)}",
            headers=headers,
            _request_timeout=limits,
        )
        raw: aiohttp.ClientResponse = response.response
        if raw.status == 410:
            raw.release()
            raise Expired
        raw.raise_for_status()
        return raw


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The lines of a body. aiohttp's own reader refuses lines beyond its buffer."""
    rest = b""
    async for piece in response.content.iter_any():
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        for line in lines:
            if line:
                yield line


class KubernetesTenants:
    """Keeps a directory in step with the cluster."""

    def __init__(
        self, api: ApiClient, namespace: str, deployment: str, directory: Directory
    ) -> None:
        self._directory = directory
        self._bindings = Watch(
            api,
            namespace,
            "ragbindings",
            f"spec.deploymentRef.name={deployment}",
            self._replace_bindings,
            self._apply_binding,
            lambda body: directory.remove(body["metadata"]["name"]),
        )
        self._deployments = Watch(
            api,
            namespace,
            "ragdeployments",
            f"metadata.name={deployment}",
            self._replace_deployments,
            self._apply_deployment,
            lambda _: directory.set_deployment(None),
        )

    @property
    def watches(self) -> tuple[Watch, Watch]:
        """Both watches; whoever has this runs them."""
        return self._bindings, self._deployments

    async def synced(self) -> None:
        """Wait until the first list of both is applied."""
        await self._deployments.synced.wait()
        await self._bindings.synced.wait()

    @property
    def progress(self) -> WatchProgress | None:
        """How far both watches are applied; None before their first lists."""
        if self._bindings.progress is None or self._deployments.progress is None:
            return None
        return WatchProgress(
            ragbindings=self._bindings.progress, ragdeployments=self._deployments.progress
        )

    def _parse(self, body: dict[str, Any]) -> RAGBinding | None:
        """A binding, or None: what cannot be understood must not authenticate anybody.

        Fields that this version does not know are passed over: during an upgrade a newer operator
        writes bindings that older pods still read.
        """
        try:
            return RAGBinding.model_validate(body, extra="ignore")
        except ValidationError as error:
            name = body["metadata"]["name"]
            _log.error("RAGBinding %s cannot be read and is not served: %s", name, error)
            return None

    def _replace_bindings(self, items: list[dict[str, Any]]) -> None:
        parsed = (self._parse(item) for item in items)
        self._directory.replace(binding for binding in parsed if binding is not None)

    def _apply_binding(self, body: dict[str, Any]) -> None:
        binding = self._parse(body)
        if binding is None:
            self._directory.remove(body["metadata"]["name"])
        else:
            self._directory.apply(binding)

    def _replace_deployments(self, items: list[dict[str, Any]]) -> None:
        self._directory.set_deployment(None)
        for item in items:
            self._apply_deployment(item)

    def _apply_deployment(self, body: dict[str, Any]) -> None:
        try:
            deployment = RAGDeployment.model_validate(body, extra="ignore")
        except ValidationError as error:
            _log.error("the RAGDeployment cannot be read; its last state stays: %s", error)
            return
        current = {"generation": deployment.generation}
        self._directory.set_deployment(deployment.spec.model_copy(update=current))
