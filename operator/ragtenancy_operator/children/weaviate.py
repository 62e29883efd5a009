"""Weaviate: a StatefulSet, its headless Service, and the Service that clients use.

Ports, arguments and environment follow the server's own Helm chart (17.8).
"""

from typing import Final

from ragtenancy_api import wiring
from ragtenancy_operator.children import secrets
from ragtenancy_operator.children.base import (
    Context,
    container,
    empty_dir,
    env,
    http_probe,
    pod_template,
    secret_env,
    serves_until_it_is_out_of_service,
    service,
)
from ragtenancy_operator.children.workloads import budget, stateful_set
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest
from ragtenancy_operator.weaviate import default_copies

HTTP_PORT: Final = 8080
GRPC_PORT: Final = 50051
METRICS_PORT: Final = 2112
GOSSIP_PORT: Final = 7100
MEMBER_PORTS: Final = (7101, 8300, 8301)
"""Among the members: data, raft, and raft's own requests."""
_DATA: Final = "/var/lib/weaviate"
_USER: Final = "ragtenancy"
_ENVIRONMENT: Final = {
    "PERSISTENCE_DATA_PATH": _DATA,
    "DEFAULT_VECTORIZER_MODULE": "none",
    "ENABLE_MODULES": "",
    "ASYNC_INDEXING": "true",  # the dynamic index needs it
    "QUERY_DEFAULTS_LIMIT": "20",
    "LIMIT_RESOURCES": "true",
    "DISABLE_TELEMETRY": "true",
    "GO_PROFILING_DISABLE": "true",
    "PROMETHEUS_MONITORING_ENABLED": "true",
    "PROMETHEUS_MONITORING_GROUP": "true",  # no series per tenant
    "PROMETHEUS_MONITORING_PORT": str(METRICS_PORT),
    "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
    "AUTHENTICATION_APIKEY_ENABLED": "true",
    "AUTHENTICATION_APIKEY_USERS": _USER,
    "AUTHORIZATION_ADMINLIST_ENABLED": "true",
    "AUTHORIZATION_ADMINLIST_USERS": _USER,
    "GRPC_PORT": str(GRPC_PORT),
    "CLUSTER_GOSSIP_BIND_PORT": str(GOSSIP_PORT),
    "CLUSTER_DATA_BIND_PORT": str(MEMBER_PORTS[0]),
    "RAFT_PORT": str(MEMBER_PORTS[1]),
    "RAFT_INTERNAL_RPC_PORT": str(MEMBER_PORTS[2]),
    "HOME": "/tmp",  # noqa: S108 - an emptyDir
}


def replication_factor(context: Context) -> int | None:
    """Copies of each shard; None where that depends on how many members an external one has."""
    store = context.deployment.spec.vector_store
    if store.collection.replication_factor is not None:
        return store.collection.replication_factor
    managed = store.weaviate.managed
    return default_copies(managed.replicas) if managed else None


def _members(context: Context, replicas: int) -> dict[str, str]:
    """How the members of a raft find each other.

    A single one is a raft of its own until more pods join it: the environment then changes, and
    the new pods are ready before the old one is started anew with it.
    """
    name, namespace = context.child(Component.WEAVIATE, "headless"), context.namespace
    found = {
        "RAFT_BOOTSTRAP_EXPECT": str(replicas),
        "CLUSTER_JOIN": f"{name}.{namespace}.svc.cluster.local.",
    }
    if replicas > 1:
        pods = (f"{context.child(Component.WEAVIATE)}-{index}" for index in range(replicas))
        found["RAFT_JOIN"] = ",".join(pods)
    return found


def build(context: Context) -> list[Manifest]:
    """The objects of a managed Weaviate; none when it is external."""
    settings = context.deployment.spec.vector_store.weaviate.managed
    if settings is None:
        return []
    component = Component.WEAVIATE
    name, headless = context.child(component), context.child(component, "headless")
    credentials = secrets.name(context, component)
    scratch, scratch_mount = empty_dir("tmp", "/tmp")  # noqa: S108
    main = container(
        settings.image or context.images[component],
        settings,
        name=component,
        # Kubernetes args replace the image's command, so all of its words are here.
        args=["--host", "0.0.0.0", "--port", str(HTTP_PORT), "--scheme", "http"],  # noqa: S104
        env=[
            # A stable name: Weaviate keeps its raft identity under it.
            {"name": "CLUSTER_HOSTNAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            secret_env(
                "AUTHENTICATION_APIKEY_ALLOWED_KEYS", credentials, wiring.CREDENTIAL_WEAVIATE
            ),
            *env(_ENVIRONMENT | _members(context, settings.replicas), settings),
        ],
        ports=[
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        startupProbe=http_probe(
            "/v1/.well-known/ready", HTTP_PORT, period=2, timeout=3, failures=300
        ),
        readinessProbe=http_probe(
            "/v1/.well-known/ready", HTTP_PORT, period=3, timeout=3, failures=3
        ),
        livenessProbe=http_probe(
            "/v1/.well-known/live", HTTP_PORT, period=10, timeout=5, failures=6
        ),
        lifecycle=serves_until_it_is_out_of_service(),
        volumeMounts=[{"name": "data", "mountPath": _DATA}, scratch_mount],
    )
    template = pod_template(
        context,
        component,
        settings,
        main,
        [scratch],
        # it sleeps 5 s, drains HTTP 15 s, gRPC 20 s, and closes up to 60 s
        terminationGracePeriodSeconds=120,
    )
    clients = {"http": HTTP_PORT, "grpc": GRPC_PORT}
    return [
        service(context, headless, component, clients, headless=True),
        service(context, name, component, clients),
        stateful_set(
            context,
            component,
            template,
            settings.storage,
            service=headless,
            replicas=settings.replicas,
            # the first pod is not ready before others have voted for a leader
            podManagementPolicy="Parallel",
        ),
        *budget(context, component, settings.replicas),
    ]


def urls(context: Context) -> tuple[str, str]:
    """URLs of the HTTP and the gRPC API, managed or external."""
    external = context.deployment.spec.vector_store.weaviate.external
    if external is not None:
        return external.http_url, external.grpc_url
    host = context.host(Component.WEAVIATE)
    return f"http://{host}:{HTTP_PORT}", f"grpc://{host}:{GRPC_PORT}"
