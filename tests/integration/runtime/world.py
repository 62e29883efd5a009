"""What the runtime's integration tests run against: pods with real stores and a fake model."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml

from ragtenancy_api import wiring
from tests.fakes.manifests import DEPLOYMENT, NAMESPACE, deployment_manifest
from tests.fakes.openai import FakeOpenAI
from tests.integration.servers import Process, RedisServer, WeaviateServer, free_ports


@dataclass(frozen=True)
class Pod:
    """A runtime process."""

    url: str
    internal: str
    process: Process

    @classmethod
    def start(
        cls, home: Path, environment: Mapping[str, str], *options: str, ready: bool = True
    ) -> "Pod":
        """Start one, and wait until it is ready unless it is not to be."""
        port, internal = free_ports(2)
        home.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "ragtenancy_runtime", "--host", "127.0.0.1",
            "--port", str(port), "--internal-port", str(internal), *options,
        ]  # fmt: skip
        process = Process(command, home / "pod.log", {**os.environ, **environment})
        pod = cls(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{internal}", process)
        if ready:
            process.wait_until(pod.ready)
        return pod

    def ready(self) -> bool:
        """Whether it says that it is."""
        try:
            with urlopen(f"{self.url}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def environment(
    home: Path,
    state: RedisServer,
    cache: RedisServer,
    weaviate: WeaviateServer,
    upstream: FakeOpenAI,
) -> dict[str, str]:
    """The environment of a pod, and the credential files that it points to."""
    credentials = home / "credentials"
    credentials.mkdir(parents=True, exist_ok=True)
    for name, value in {
        wiring.CREDENTIAL_STATE_REDIS: state.url,
        wiring.CREDENTIAL_CACHE_REDIS: cache.url,
        wiring.CREDENTIAL_CACHE_SALT: "salt",
        wiring.CREDENTIAL_WEAVIATE: weaviate.api_key,
        wiring.CREDENTIAL_GENERATION: "chat-key",
    }.items():
        (credentials / name).write_text(value)
    return {
        wiring.ENV_DEPLOYMENT: DEPLOYMENT,
        wiring.ENV_NAMESPACE: NAMESPACE,
        wiring.ENV_WEAVIATE_HTTP_URL: weaviate.url,
        wiring.ENV_WEAVIATE_GRPC_URL: f"grpc://127.0.0.1:{weaviate.grpc_port}",
        wiring.ENV_EMBEDDING_URL: upstream.url,
        wiring.ENV_GENERATION_URL: upstream.url,
        wiring.ENV_CREDENTIALS: str(credentials),
        "RAGTENANCY_DRAIN_SECONDS": "0",
    }


def write_tenants(folder: Path, upstream: FakeOpenAI, *bindings: dict[str, Any]) -> None:
    """The files of `--tenants`."""
    folder.mkdir(parents=True, exist_ok=True)
    manifests = [deployment_manifest(upstream.url), *bindings]
    (folder / "all.yaml").write_text(yaml.safe_dump_all(manifests))
