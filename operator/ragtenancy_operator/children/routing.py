"""The ways to the API from outside: an Ingress, or a route of the Gateway API."""

from typing import Any, Final

from ragtenancy_api.api import HTTPRoute, Ingress
from ragtenancy_operator.children.base import Context, manifest
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest

PORT: Final = 80
"""The API's Service listens here."""


def build(context: Context) -> list[Manifest]:
    """The API's Ingress or HTTPRoute; none when it is reached inside the cluster only."""
    settings = context.deployment.spec.api
    if settings.ingress is not None:
        secret = settings.tls.secret_name if settings.tls else None
        return [_ingress(context, settings.ingress, secret)]
    if settings.http_route is not None:
        return [_route(context, settings.http_route)]
    return []


def _ingress(context: Context, settings: Ingress, secret: str | None) -> Manifest:
    name = context.child(Component.API)
    backend = {"service": {"name": name, "port": {"name": "http"}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    spec: dict[str, Any] = {"rules": [{"host": settings.host, "http": {"paths": [path]}}]}
    if settings.class_name is not None:
        spec["ingressClassName"] = settings.class_name
    if secret is not None:
        spec["tls"] = [{"hosts": [settings.host], "secretName": secret}]
    made = manifest(context, "networking.k8s.io/v1", "Ingress", name, Component.API, spec=spec)
    if settings.annotations:
        made["metadata"]["annotations"] = dict(settings.annotations)
    return made


def _route(context: Context, settings: HTTPRoute) -> Manifest:
    name = context.child(Component.API)
    rule = {
        "backendRefs": [{"name": name, "port": PORT}],
        # no limit: an answer streams for as long as the model writes, and the API has its own
        "timeouts": {"request": "0s"},
    }
    spec: dict[str, Any] = {
        "parentRefs": [parent.wire() for parent in settings.parent_refs],
        "rules": [rule],
    }
    if settings.hostnames:
        spec["hostnames"] = list(settings.hostnames)
    version = "gateway.networking.k8s.io/v1"
    return manifest(context, version, "HTTPRoute", name, Component.API, spec=spec)
