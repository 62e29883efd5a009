"""What the builders of all components share."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from ragtenancy_api.deployment import RAGDeployment
from ragtenancy_api.pods import PodSettings
from ragtenancy_operator import names
from ragtenancy_operator.children import placement
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest

RUN_AS: Final = 65532
"""Uid and gid of every container: any that is not root will do for the official images."""


@dataclass(frozen=True)
class Context:
    """What a builder may know.

    Attributes:
        deployment: The RAGDeployment.
        images: Image by component, for components whose spec names none.
        credentials: Hash of each component's credentials; pods roll when theirs changes.
        operator_namespace: Where the operator's own pods are.
        redis_ports: Port of each external Redis, by component; its URL is in a Secret.
    """

    deployment: RAGDeployment
    images: Mapping[str, str]
    credentials: Mapping[str, str] = field(default_factory=dict)
    operator_namespace: str = "ragtenancy-system"
    redis_ports: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the RAGDeployment."""
        return self.deployment.metadata.name

    @property
    def namespace(self) -> str:
        """Its namespace, which is that of all its children."""
        return self.deployment.metadata.namespace

    def child(self, *parts: str) -> str:
        """Name of a child."""
        return names.child(self.name, *parts)

    def host(self, *parts: str) -> str:
        """Address of a child Service inside the cluster."""
        return f"{self.child(*parts)}.{self.namespace}.svc"


def managed(deployment: RAGDeployment) -> dict[str, PodSettings]:
    """Settings of each component that the operator runs; the others are somebody else's."""
    spec = deployment.spec
    parts = {
        Component.WEAVIATE: spec.vector_store.weaviate.managed,
        Component.STATE: spec.state.redis.managed,
        Component.CACHE: spec.cache.redis.managed,
        Component.EMBEDDING: spec.embedding.vllm,
        Component.GENERATION: spec.generation.vllm,
        Component.API: spec.api,
    }
    return {component: settings for component, settings in parts.items() if settings is not None}


def selector(context: Context, component: str) -> dict[str, str]:
    """Labels that select a component's pods."""
    return names.selector(context.name, component)


def labels(context: Context, component: str) -> dict[str, str]:
    """Labels of a component's objects."""
    return {
        names.LABEL_NAME: component,
        names.LABEL_MANAGED_BY: names.MANAGER,
        names.LABEL_PART_OF: names.MANAGER,
        **selector(context, component),
    }


def owned_by(owner: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ownerReferences of a child in the owner's namespace."""
    return [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["name"],
            "uid": owner["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def manifest(
    context: Context, api_version: str, kind: str, name: str, component: str, **body: Any
) -> Manifest:
    """A child of the RAGDeployment."""
    deployment = context.deployment
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": context.namespace,
            "labels": labels(context, component),
            "ownerReferences": owned_by(
                {
                    "apiVersion": deployment.api_version,
                    "kind": "RAGDeployment",
                    "name": context.name,
                    "uid": deployment.metadata.uid,
                }
            ),
        },
        **body,
    }


def service(
    context: Context,
    name: str,
    component: str,
    ports: Mapping[str, int],
    *,
    headless: bool = False,
    targets: Mapping[str, int] | None = None,
) -> Manifest:
    """A Service in front of a component. ``targets`` are the pods' ports where they differ."""
    spec: dict[str, Any] = {
        "selector": selector(context, component),
        "ports": [
            {
                "name": port,
                "port": number,
                "targetPort": (targets or ports)[port],
                "protocol": "TCP",
            }
            for port, number in ports.items()
        ],
    }
    if headless:
        # Weaviate's members find each other before they are ready.
        spec |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    return manifest(context, "v1", "Service", name, component, spec=spec)


def env(variables: Mapping[str, str], settings: PodSettings) -> list[dict[str, Any]]:
    """Environment of a container; the settings' own variables come last and win."""
    own = {variable.name: variable.value for variable in settings.env or ()}
    return [{"name": name, "value": value} for name, value in {**variables, **own}.items()]


def secret_env(name: str, secret: str, key: str) -> dict[str, Any]:
    """An environment variable from a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def http_probe(path: str, port: int, *, period: int, timeout: int, failures: int) -> dict[str, Any]:
    """A probe by HTTP GET."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def empty_dir(name: str, path: str, **settings: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A scratch volume and its mount."""
    return {"name": name, "emptyDir": settings}, {"name": name, "mountPath": path}


def container(image: str, settings: PodSettings, **body: Any) -> dict[str, Any]:
    """A component's main container, fit for Pod Security ``restricted``."""
    result: dict[str, Any] = {
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **body,
    }
    if settings.resources:
        result["resources"] = settings.resources.wire()
    if settings.extra_volume_mounts:
        result["volumeMounts"] = [*body.get("volumeMounts", ()), *settings.extra_volume_mounts]
    return result


DRAIN_SECONDS: Final = 5


def serves_until_it_is_out_of_service() -> dict[str, Any]:
    """The lifecycle of a container that stops at once when it is told to.

    A pod that ends leaves its Service's endpoints, and the nodes' proxies learn of it a moment
    later. Until then it still takes requests. Kubernetes sleeps, so the image needs no shell.
    """
    return {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}}


def pod_template(
    context: Context,
    component: str,
    settings: PodSettings,
    main: Mapping[str, Any],
    volumes: Sequence[Mapping[str, Any]] = (),
    **spec: Any,
) -> dict[str, Any]:
    """A pod template with the settings that every component shares."""
    annotations = dict(settings.pod_annotations or {})
    if credentials := context.credentials.get(component):
        annotations[names.ANNOTATION_CREDENTIALS] = credentials
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": RUN_AS,
            "runAsGroup": RUN_AS,
            "fsGroup": RUN_AS,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [dict(main)],
        "volumes": [dict(volume) for volume in [*volumes, *(settings.extra_volumes or ())]],
        **spec,
    }
    default = placement.default(context.deployment, component)
    optional = {
        "nodeSelector": settings.node_selector,
        "tolerations": [t.wire() for t in settings.tolerations or ()],
        "affinity": default.affinity if settings.affinity is None else settings.affinity,
        "topologySpreadConstraints": default.spread
        if settings.topology_spread_constraints is None
        else settings.topology_spread_constraints,
        "priorityClassName": settings.priority_class_name,
        "runtimeClassName": settings.runtime_class_name,
        "imagePullSecrets": [s.wire() for s in settings.image_pull_secrets or ()],
    }
    pod |= {name: value for name, value in optional.items() if value}
    return {
        "metadata": {
            # ours last: the operator selects by them
            "labels": {**(settings.pod_labels or {}), **labels(context, component)},
            "annotations": annotations,
        },
        "spec": pod,
    }


def claim_spec(size: str, storage_class: str | None, mode: str = "ReadWriteOnce") -> dict[str, Any]:
    """The spec of a PersistentVolumeClaim."""
    spec: dict[str, Any] = {
        "accessModes": [mode],
        "resources": {"requests": {"storage": size}},
    }
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return spec


_UNITS: Final = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def quantity(text: str | int) -> Decimal:
    """The value of a Kubernetes quantity, such as ``256Mi`` or ``500m``.

    Raises:
        ValueError: It is none.
    """
    found = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text))
    try:
        if found:
            return Decimal(found[1]) * _UNITS[found[2]]
    except (KeyError, InvalidOperation) as error:
        raise ValueError(f"{text!r} is not a quantity, such as 256Mi or 500m") from error
    raise ValueError(f"{text!r} is not a quantity, such as 256Mi or 500m")


def digest(value: Any) -> str:
    """A short hash of any JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
