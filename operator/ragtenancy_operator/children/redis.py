"""The two managed Redis: one for state (append-only file, no eviction), one for the cache.

They are apart so that one tenant's cached answers can never turn another's admission away.
"""

from collections.abc import Sequence
from typing import Any, Final

from ragtenancy_api.pods import PodSettings
from ragtenancy_operator.children import secrets
from ragtenancy_operator.children.base import (
    Context,
    container,
    empty_dir,
    env,
    pod_template,
    quantity,
    secret_env,
    service,
)
from ragtenancy_operator.children.workloads import deployment, stateful_set
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest

PORT: Final = 6379
_STATE_ARGS: Final = ["--appendonly", "yes", "--appendfsync", "everysec"]


def _redis(
    context: Context,
    component: str,
    settings: PodSettings,
    args: list[str],
    volumes: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    # redis-cli takes the password from REDISCLI_AUTH, so it is in no probe's arguments
    ping = {
        "exec": {"command": ["redis-cli", "ping"]},
        "periodSeconds": 2,
        "timeoutSeconds": 3,
        "failureThreshold": 5,
    }
    scratch, scratch_mount = empty_dir("tmp", "/tmp")  # noqa: S108
    credentials = secrets.name(context, component)
    main = container(
        settings.image or context.images[component],
        settings,
        name="redis",
        args=["--port", str(PORT), "--requirepass", "$(REDISCLI_AUTH)", *args],
        env=[
            secret_env("REDISCLI_AUTH", credentials, secrets.PASSWORD),
            *env({}, settings),
        ],
        ports=[{"name": "redis", "containerPort": PORT, "protocol": "TCP"}],
        startupProbe=ping | {"failureThreshold": 150},
        readinessProbe=ping,
        livenessProbe=ping | {"periodSeconds": 10, "failureThreshold": 6},
        volumeMounts=[{"name": "data", "mountPath": "/data"}, scratch_mount],
    )
    return pod_template(context, component, settings, main, [scratch, *volumes])


def build_state(context: Context) -> list[Manifest]:
    """The objects of a managed state Redis; none when it is external."""
    settings = context.deployment.spec.state.redis.managed
    if settings is None:
        return []
    component = Component.STATE
    name = context.child(component)
    args = [*_STATE_ARGS, "--maxmemory-policy", "noeviction"]
    template = _redis(context, component, settings, args)
    return [
        service(context, name, component, {"redis": PORT}),
        stateful_set(context, component, template, settings.storage, service=name),
    ]


def build_cache(context: Context) -> list[Manifest]:
    """The objects of a managed cache Redis; none when it is external."""
    settings = context.deployment.spec.cache.redis.managed
    if settings is None:
        return []
    component = Component.CACHE
    name = context.child(component)
    memory = int(quantity(settings.max_memory))
    args = ["--save", "", "--appendonly", "no"]
    args += ["--maxmemory", str(memory), "--maxmemory-policy", "allkeys-lru"]
    data, _ = empty_dir("data", "/data")
    template = _redis(context, component, settings, args, [data])
    # never two at once: half of the requests would look in the wrong one
    strategy = {"type": "Recreate"}
    return [
        service(context, name, component, {"redis": PORT}),
        deployment(context, component, template, replicas=1, strategy=strategy),
    ]
