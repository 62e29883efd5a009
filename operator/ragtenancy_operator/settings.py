"""What can be set about the operator, from its environment."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from ragtenancy_operator.names import Component

WEAVIATE_IMAGE = "docker.io/semitechnologies/weaviate:1.38.11"
REDIS_IMAGE = "docker.io/library/redis:8.0.2"
VLLM_IMAGE = "docker.io/vllm/vllm-openai:v0.32.0"
RUNTIME_IMAGE = "ghcr.io/ragtenancy/runtime:0.1.0"


@dataclass(frozen=True)
class Settings:
    """Settings of one operator process.

    Attributes:
        identity: Name of this process in the Lease.
        namespace: Namespace of the Lease.
        watch_namespaces: Namespaces to watch; all when empty.
        workers: Reconciles that run at the same time.
        resync_seconds: How often every object is looked at again.
        keeper_seconds: How often the keeper looks after the stores.
        port: Port of /healthz, /readyz and /metrics.
        lease_seconds: How long a lease holds when its holder does not renew it.
        images: Default image by component.
    """

    identity: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    namespace: str = "ragtenancy-system"
    watch_namespaces: tuple[str, ...] = ()
    workers: int = 16
    resync_seconds: float = 300.0
    keeper_seconds: float = 10.0
    port: int = 9090
    lease_seconds: float = 10.0
    images: Mapping[str, str] = field(
        default_factory=lambda: {
            Component.WEAVIATE: WEAVIATE_IMAGE,
            Component.STATE: REDIS_IMAGE,
            Component.CACHE: REDIS_IMAGE,
            Component.EMBEDDING: VLLM_IMAGE,
            Component.GENERATION: VLLM_IMAGE,
            Component.API: RUNTIME_IMAGE,
        }
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the settings; a malformed one raises ValueError with the variable's name."""
        default = cls()

        def number(name: str, fallback: float) -> float:
            text = environment.get(name)
            try:
                return float(text) if text else fallback
            except ValueError as error:
                raise ValueError(f"{name} must be a number, not {text!r}") from error

        namespaces = environment.get("RAGTENANCY_WATCH_NAMESPACES", "")
        images = dict(default.images)
        for component, names in {
            "WEAVIATE": (Component.WEAVIATE,),
            "REDIS": (Component.STATE, Component.CACHE),
            "VLLM": (Component.EMBEDDING, Component.GENERATION),
            "RUNTIME": (Component.API,),
        }.items():
            image = environment.get(f"RAGTENANCY_{component}_IMAGE")
            if image:
                images |= dict.fromkeys(names, image)
        return cls(
            identity=environment.get("RAGTENANCY_POD_NAME") or default.identity,
            namespace=environment.get("RAGTENANCY_POD_NAMESPACE") or default.namespace,
            watch_namespaces=tuple(filter(None, (n.strip() for n in namespaces.split(",")))),
            workers=int(number("RAGTENANCY_WORKERS", default.workers)),
            resync_seconds=number("RAGTENANCY_RESYNC_SECONDS", default.resync_seconds),
            keeper_seconds=number("RAGTENANCY_KEEPER_SECONDS", default.keeper_seconds),
            port=int(number("RAGTENANCY_PORT", default.port)),
            lease_seconds=number("RAGTENANCY_LEASE_SECONDS", default.lease_seconds),
            images=images,
        )
